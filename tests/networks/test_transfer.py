from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_ssl.networks.transfer import (
    TransferReport,
    compare_keys,
    load_weights,
    read_weights,
    resize_positions,
    spread_input_channels,
)
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.weight_files import save_safetensors
from tests.helpers import same


def network(channels: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels), nn.Conv2d(channels, 2, 1))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    def save(content: Any) -> Path:
        torch.save(content, tmp_path / "model.pt")
        return tmp_path / "model.pt"

    return save


def test_own_weights_match_completely() -> None:
    report = compare_keys(network().state_dict(), network())
    assert report.complete
    assert list(report.matched) == list(network().state_dict())
    assert str(report) == "9 matched"


def test_every_key_is_told_once() -> None:
    weights = network(4).state_dict()
    weights["head.bias"] = weights.pop("2.bias")
    report = compare_keys(weights, network(3))
    assert report.missing == ("2.bias",)
    assert report.unexpected == ("head.bias",)
    assert report.matched == ("1.num_batches_tracked",)
    told = [*report.matched, *report.missing, *report.unexpected, *report.mismatched]
    assert sorted(told) == sorted(weights.keys() | network().state_dict().keys())
    assert not report.complete
    assert str(report) == (
        "1 matched, 1 missing (2.bias), 1 unexpected (head.bias), "
        f"{len(report.mismatched)} mismatched (0.weight, 0.bias, 1.weight, ..)"
    )


def test_comparing_changes_nothing() -> None:
    target, weights = network(3), network(4).state_dict()
    before = copy.deepcopy((target.state_dict(), weights))
    compare_keys(weights, target)
    assert same((target.state_dict(), weights), before)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "epoch": 3}])
def test_weights_are_loaded_and_not_shared(wrap: Callable[[Any], Any], saved: Callable[[Any], Path]) -> None:
    source, target = network(), network()
    assert not same(source.state_dict(), target.state_dict())
    assert load_weights(target, saved(wrap(source.state_dict()))) is target
    assert same(target.state_dict(), source.state_dict())


def test_another_network_is_refused_and_left_alone(saved: Callable[[Any], Path]) -> None:
    target = network(3)
    before = copy.deepcopy(target.state_dict())
    weights = network(4).state_dict() | {"2.weight": target.state_dict()["2.weight"] + 1}
    with pytest.raises(UserError, match=r"model\.pt: does not fit this network: .* mismatched .*network_def"):
        load_weights(target, saved(weights))
    assert same(target.state_dict(), before)


def test_one_missing_key_is_refused(saved: Callable[[Any], Path]) -> None:
    weights = network().state_dict()
    del weights["2.bias"]
    with pytest.raises(UserError, match=r"8 matched, 1 missing \(2\.bias\)"):
        load_weights(network(), saved(weights))


@pytest.mark.parametrize(
    "content",
    [
        {"format": 1, "objective": {"a": torch.ones(1)}, "optimizer": {}, "iteration": 3},
        {},
        {"model": {}},
        [torch.ones(2)],
        torch.ones(2),
        {"a": torch.ones(1), "step": 3},
    ],
)
def test_what_is_no_state_dict_is_refused(content: Any, saved: Callable[[Any], Path]) -> None:
    with pytest.raises(UserError, match=r"is no plain state dict of a network\. Give the model\.pt .* resume\.pt"):
        read_weights(saved(content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "model.pt", tmp_path):
        with pytest.raises(UserError, match=r": there are no weights here\. Give --weights"):
            read_weights(path)


@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_broken_file_is_named(damage: str, saved: Callable[[Any], Path]) -> None:
    path = saved(network().state_dict())
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"no weights\n" * 20}[damage])
    with pytest.raises(UserError, match=r"model\.pt: cannot be read as weights \(\w+\)"):
        read_weights(path)


def test_weights_are_unwrapped_as_far_as_asked(saved: Callable[[Any], Path]) -> None:
    state = network().state_dict()
    path = saved({"epoch": 3, "net": {"state_dict": state}})
    assert same(read_weights(path, ("state_dict", "net")), state)
    with pytest.raises(UserError, match="is no plain state dict"):
        read_weights(path)


def test_what_holds_more_than_tensors_is_refused_with_the_remedy(saved: Callable[[Any], Path]) -> None:
    path = saved({"network_weights": network().state_dict(), "_best_ema": np.float64(0.5)})
    with pytest.raises(
        UserError, match=r"holds numpy\S*\.scalar too.*write its weights alone.*'network_weights'"
    ) as told:
        read_weights(path, ("network_weights",))
    assert "\n" not in str(told.value)


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_payload_is_never_executed(how: str, tmp_path: Path, saved: Callable[[Any], Path]) -> None:
    victim, path = tmp_path / "executed", tmp_path / "model.pt"
    content = {"weight": torch.ones(1), "payload": Payload(victim)}
    if how == "torch":
        saved(content)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_weights(network(), path)
    assert not victim.exists()
    torch.load(saved(content), weights_only=False)
    assert victim.exists()  # the payload was armed


@pytest.mark.parametrize(("old", "new"), [(1, 3), (3, 1), (4, 2), (2, 5)])
def test_equal_channels_are_answered_as_before(old: int, new: int) -> None:
    weight, volume = torch.randn(5, old, 3, 3, 3), torch.randn(2, 1, 6, 6, 6)
    before = F.conv3d(volume.repeat(1, old, 1, 1, 1), weight)
    spread = spread_input_channels(weight, new)
    assert spread.shape == (5, new, 3, 3, 3)
    torch.testing.assert_close(F.conv3d(volume.repeat(1, new, 1, 1, 1), spread), before, rtol=1e-4, atol=1e-5)


def test_new_channels_share_the_mean_of_the_old_ones() -> None:
    weight = torch.randn(2, 3, 3)
    slow = torch.stack([torch.stack([sum(weight[o]) / 2 for _ in range(2)]) for o in range(2)])  # type: ignore[misc]
    torch.testing.assert_close(spread_input_channels(weight, 2), slow)


def test_spreading_keeps_type_and_input() -> None:
    weight = torch.randn(2, 3, 3, 3).half()
    before = weight.clone()
    assert spread_input_channels(weight, 1).dtype == torch.float16
    assert torch.equal(weight, before)
    with pytest.raises(ValueError, match=r"`channels` must be at least 1, got 0\."):
        spread_input_channels(weight, 0)


def test_positions_of_the_same_grid_are_the_same() -> None:
    positions = torch.randn(1, 24, 5)
    torch.testing.assert_close(resize_positions(positions, (2, 3, 4), (2, 3, 4)), positions)


def test_positions_are_interpolated_between_the_centres_of_tokens() -> None:
    # features that are the token's position in the volume stay that, away from the border
    def centres(grid: tuple[int, ...]) -> torch.Tensor:
        axes = [(torch.arange(size) + 0.5) / size for size in grid]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(1, -1, len(grid))

    resized, expected = resize_positions(centres((4, 4, 2)), (4, 4, 2), (8, 4, 2)), centres((8, 4, 2))
    inner = (expected[0, :, 0] > 0.1) & (expected[0, :, 0] < 0.9)
    assert inner.sum() == 6 * 8
    torch.testing.assert_close(resized[:, inner], expected[:, inner])
    torch.testing.assert_close(resize_positions(centres((4,)), (4,), (2,)), centres((2,)))
    torch.testing.assert_close(resize_positions(centres((4, 6)), (4, 6), (2, 3)), centres((2, 3)))


def test_class_tokens_are_kept() -> None:
    positions = torch.cat([torch.full((1, 2, 3), 9.0), torch.ones(1, 8, 3)], dim=1)
    resized = resize_positions(positions, (2, 2, 2), (3, 3, 3))
    assert resized.shape == (1, 2 + 27, 3)
    assert torch.equal(resized[:, :2], positions[:, :2])
    torch.testing.assert_close(resized[:, 2:], torch.ones(1, 27, 3))


def test_grids_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"`positions` must hold the 27 tokens of `grid`, got 8\."):
        resize_positions(torch.ones(1, 8, 3), (3, 3, 3), (2, 2, 2))
    with pytest.raises(ValueError, match=r"`new_grid` must have the 3 axes of `grid`, got 2\."):
        resize_positions(torch.ones(1, 8, 3), (2, 2, 2), (2, 2))


def transfer(**groups: Any) -> TransferReport:
    empty: dict[str, Any] = {"matched": (), "adapted": {}, "missing": (), "unexpected": (), "mismatched": {}}
    more: dict[str, Any] = {"encoder": (), "encoder_size": 0}
    return TransferReport(file="a.pt", sha256="0", key_map="own", **{**empty, **more, **groups})


def test_a_report_is_one_line() -> None:
    report = transfer(matched=("a.w", "b.w"), adapted={"c.w": "so"}, missing=("d.w",), encoder=("a.w",), encoder_size=2)
    assert str(report) == (
        "pretrained weights of a.pt: 2 matched, 1 adapted, 1 missing; 1 of 2 of the encoder (names: own)"
    )
    assert report.loaded == ("a.w", "b.w", "c.w")


def test_a_table_stays_readable_and_counts_every_key() -> None:
    names = [f"stage{s}.block{b}.conv{c}.weight" for s in range(5) for b in range(4) for c in range(15)]
    report = transfer(matched=names[:200], missing=names[200:290], unexpected=names[290:])
    head, *lines = report.table().splitlines()
    assert head.split() == ["module", "matched", "adapted", "missing", "unexpected", "mismatched"]
    assert [line.split()[0] for line in lines] == [f"stage{s}.block{b}" for s in range(5) for b in range(4)]
    counts = [[int(count.replace("-", "0")) for count in line.split()[1:]] for line in lines]
    assert [sum(column) for column in zip(*counts, strict=True)] == [200, 0, 90, 10, 0]


def test_a_table_names_what_was_adapted_or_refused() -> None:
    table = transfer(adapted={"a.w": "so"}, mismatched={"b.w": "2 in the file, 3 in the network"}).table()
    assert "adapted: a.w: so" in table
    assert "mismatched: b.w: 2 in the file, 3 in the network" in table


def test_a_module_inside_another_is_counted_once() -> None:
    lines = transfer(matched=("a.weight", "a.b.weight", "a.b.c.weight", "top")).table(rows=3).splitlines()[1:]
    assert {line.split()[0]: int(line.split()[1]) for line in lines} == {"a": 1, "a.b": 2, "top": 1}


def test_safetensors_are_read_like_a_state_dict(tmp_path: Path) -> None:
    trained, path = network(), tmp_path / "model.safetensors"
    save_safetensors(trained.state_dict(), path)
    assert same(dict(load_weights(network(), path).state_dict()), dict(trained.state_dict()))


def test_what_only_runs_code_comes_without_a_way_to_run_it(saved: Callable[[Any], Path]) -> None:
    class Call:
        def __reduce__(self) -> tuple[Any, ...]:
            return print, ("called",)

    path = saved({"weight": Call()})
    with pytest.raises(UserError, match=r"asks for \S*print, which no weights need.* Nothing was run") as told:
        read_weights(path)
    assert "weights_only=False" not in str(told.value)
