from __future__ import annotations

import dataclasses
import importlib.util
import json
import runpy
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from monai_ssl.data.phantoms import write_phantoms

ROOT = Path(__file__).parents[1]


def test_step_overhead_measures_both_loops(tmp_path: Path) -> None:
    output = tmp_path / "overhead.json"
    options = ["--steps", "1", "--rounds", "1", "--patch", "16", "--output", str(output)]
    command = [sys.executable, str(ROOT / "benchmarks" / "step_overhead.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["ratio"] > 0
    assert result["bare_seconds"] > 0
    assert "SSLTrainer" in done.stdout


def test_transforms_are_measured_beside_their_twins(tmp_path: Path) -> None:
    output = tmp_path / "transforms.json"
    options = ["--size", "48", "--rounds", "1", "--device", "cpu", "--output", str(output)]
    command = [sys.executable, str(ROOT / "benchmarks" / "transforms.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text())["rows"]
    assert {row["volumes"] for row in rows} == {1, 8}
    assert {"ours", "copy", "MONAI RandCoarseDropout", "MONAI RandRotate90"} <= {row["transform"] for row in rows}
    assert all(row["volumes_per_second"] > 0 for row in rows)
    assert all(row["bare_volumes_per_second"] > 0 for row in rows if row["transform"] != "copy")


def test_what_is_compared_has_the_same_result_and_share_of_changed_voxels() -> None:
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "transforms.py"))
    images = torch.randn(8, 1, 48, 48, 48, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    for task, transforms in benchmark["pairs"](48).items():
        shares = []
        for name, transform in transforms.items():
            if name.startswith("TorchIO"):
                continue
            transform.set_random_state(0)
            call, changed = benchmark["calls_of"](name, transform, 8)["full"], []
            for _ in range(4):
                out = call(images)
                assert torch.equal(images, before), name
                assert (out.shape, out.is_contiguous()) == (images.shape, True), name
                changed.append(float((out != images).float().mean()))
            shares.append(statistics.mean(changed))
        assert max(shares) < 1.4 * min(shares), task  # sizes are drawn, and blocks may overlap in one of the two


@contextmanager
def loaded(name: str) -> Iterator[Any]:
    """A benchmark as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks for its annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def semi_step() -> Iterator[Any]:
    """benchmarks/semi_step.py as a module."""
    with loaded("semi_step") as module:
        yield module


@pytest.fixture
def tiny(semi_step: Any) -> Any:
    """The least patch that every network of the bundle takes."""
    return semi_step.Settings(patch=(16, 16, 16), device="cpu", threads=1, rounds=1, steps=2)


reads_configs = pytest.mark.filterwarnings("ignore:parsing config_file")


def test_semi_step_measures_a_method_beside_its_passes(tmp_path: Path) -> None:
    options = ["--methods", "mean_teacher", "--patch", "16", "16", "16", "--rounds", "1", "--steps", "1"]
    command = [sys.executable, str(ROOT / "benchmarks" / "semi_step.py"), *options, "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    supervised, method = json.loads((tmp_path / "semi_step.json").read_text())["rows"]
    assert (supervised["expected_ratio"], supervised["unlabeled"]) == (1, 0)
    assert (method["patches_with_gradient"], method["patches_without"]) == (4, 2)
    assert method["expected_ratio"] == pytest.approx((4 * 3 + 2) / (2 * 3))
    assert method["over_passes"] == pytest.approx(method["ratio"] / method["expected_ratio"])
    assert 0 < supervised["memory_mib"] < 1000
    assert 0 < method["memory_mib"] < 1000
    assert "mean_teacher" in done.stdout


@reads_configs
@pytest.mark.parametrize(
    ("method", "with_gradient", "without"),
    [
        ("supervised", 2, 0),
        ("supervised_average", 2, 0),
        ("supervised_copy_paste", 2, 0),
        ("mean_teacher", 4, 2),
        ("uncertainty_mean_teacher", 4, 2 + 8 * 2),
        ("entropy_minimisation", 4, 0),
        ("interpolation_consistency", 4, 2),
        ("fixmatch", 4, 2),
        ("cross_pseudo", 4 + 4, 0),
        ("cross_teaching", 4 + 4, 0),
        ("uncertainty_rectified_pyramid", 4, 0),
        ("adaptive_blended_consistency", 2 + 2 * 2, 0),
        ("bidirectional_copy_paste", 2, 2),
        ("dual_teacher", 4, 2 + 2 * 2),
        ("strong_view_teacher", 2 + 2 * 2, 2),
        ("learned_transforms", 2 + 2 * 2 + 4, 0),
    ],
)
def test_passes_that_are_counted_are_those_of_the_papers(
    semi_step: Any, tiny: Any, method: str, with_gradient: int, without: int
) -> None:
    trainer = semi_step.build(method, tiny)
    passes = semi_step.count_passes(trainer)
    counted = [sum(each.patches for each in passes if each.gradient is learns) for learns in (True, False)]
    assert counted == [tiny.steps * with_gradient, tiny.steps * without]
    weights = {repr(network): 1.0 for network in semi_step.networks(trainer.objective)}
    assert semi_step.units(passes, weights) == tiny.steps * (3 * with_gradient + without)


@reads_configs
def test_a_network_of_another_kind_weighs_as_its_own_forward_pass(semi_step: Any, tiny: Any) -> None:
    twin = semi_step.count_passes(semi_step.build("supervised", tiny))[0]
    alike = semi_step.count_passes(semi_step.build("cross_pseudo", tiny))
    assert list(semi_step.forward_weights(alike, twin, tiny).values()) == [1.0]
    both = semi_step.count_passes(semi_step.build("cross_teaching", tiny))
    weights = semi_step.forward_weights(both, twin, tiny)
    assert weights[repr(twin.network)] == 1.0
    assert max(weights.values()) > 1.0  # 11 million weights beside half a million


def test_weights_are_those_of_a_patch_as_the_step_had_it(
    semi_step: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    class Network(torch.nn.Module):
        def __init__(self, cost: float) -> None:
            super().__init__()
            self.cost = cost

        def forward(self, *images: torch.Tensor) -> None:
            clock[0] += self.cost * images[0].numel() * len(images)

        def extra_repr(self) -> str:
            return str(self.cost)

    monkeypatch.setattr(semi_step, "clock", lambda settings: lambda: clock[0])
    full, half = torch.zeros(2, 1, 4, 4, 4), torch.zeros(6, 1, 2, 2, 2)
    twin = semi_step.Pass(Network(1.0), (full,), True)
    registration = semi_step.Pass(Network(3.0), (half, half), False)
    weights = semi_step.forward_weights([twin, registration], twin, tiny)
    assert list(weights.values()) == pytest.approx([1.0, 3.0 * 2 / 8])  # two images of an eighth of the voxels
    assert semi_step.units([twin, registration], weights) == pytest.approx(2 * 3 + 6 * 0.75)


@reads_configs
def test_a_round_is_so_many_real_steps_in_the_middle_of_a_run(semi_step: Any, tiny: Any) -> None:
    trainer = semi_step.build("bidirectional_copy_paste", tiny)
    before, start = [weight.clone() for weight in trainer.objective.parameters()], trainer.state.iteration
    trainer.run()
    trainer.run()
    assert trainer.state.iteration == start + 2 * tiny.steps
    assert trainer.objective.progress == pytest.approx(0.5, abs=1e-4)
    assert trainer.objective.weights == {"pseudo": 0.5}
    assert trainer.state.output["terms"]["pseudo"] > 0  # its second phase
    after = trainer.objective.parameters()  # the teacher's too
    assert sum(torch.equal(mine, theirs) for mine, theirs in zip(before, after, strict=True)) < len(before) / 10


@reads_configs
def test_views_and_channels_last_reach_the_step(semi_step: Any, tiny: Any) -> None:
    trainer = semi_step.build("fixmatch", dataclasses.replace(tiny, channels_last=True))
    batch = semi_step.prepared(trainer)
    assert batch["unlabeled"].keys() == {"image", "strong"}
    # a single channel lies the same way in both formats: the strides tell
    assert batch["labeled"]["image"].stride() == (4096, 1, 256, 16, 1)
    weights = [weight for weight in trainer.objective.network.parameters() if weight.dim() == 5]
    assert all(weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in weights)
    trainer.run()


def test_calls_take_turns_and_the_first_round_does_not_count(semi_step: Any) -> None:
    order: list[str] = []
    costs, clock = {"a": iter([9.0, 1.0, 2.0]), "b": iter([9.0, 3.0, 4.0])}, [0.0]

    def call(name: str) -> None:
        order.append(name)
        clock[0] += next(costs[name])

    calls = {"a": lambda: call("a"), "b": lambda: call("b")}
    assert semi_step.in_turn(calls, 2, lambda: clock[0]) == {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    assert "".join(order) == "ababab"


@reads_configs
def test_the_default_method_is_the_one_that_changes_nothing(semi_step: Any) -> None:
    assert semi_step.merged(semi_step.default_method()) == semi_step.merged()


@reads_configs
@pytest.mark.parametrize(
    ("over", "options", "fails"), [(1.2, ["--check"], True), (1.05, ["--check"], False), (1.2, [], False)]
)
def test_only_a_checked_method_that_is_too_dear_fails(
    semi_step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over: float, options: list[str], fails: bool
) -> None:
    numbers = ("labeled", "unlabeled", "patches_with_gradient", "patches_without", "expected_ratio", "views_seconds")

    def row(method: str, settings: Any) -> dict[str, Any]:
        cost = over if method == semi_step.default_method() else 1.5
        return dict.fromkeys(numbers, 1) | {
            **{"method": method, "memory_mib": 2.0, "ratios": [1.0], "over_passes": cost, "plain_ratios": []}
        }

    monkeypatch.setattr(semi_step, "in_own_process", row)
    monkeypatch.setattr(
        sys, "argv", ["semi_step.py", "--methods", "fixmatch", "--json", str(tmp_path / "x.json"), *options]
    )
    with pytest.raises(SystemExit, match=r"takes 1\.20 times its passes; at most 1\.10") if fails else nullcontext():
        semi_step.main()
    measured = [each["method"] for each in json.loads((tmp_path / "x.json").read_text())["rows"]]
    assert measured == ["supervised", *([semi_step.default_method()] if options else []), "fixmatch"]


@pytest.fixture(scope="module")
def detection_step(semi_step: Any) -> Iterator[Any]:
    """benchmarks/detection_step.py as a module; it imports the other one."""
    with loaded("detection_step") as module:
        yield module


@pytest.fixture
def small(detection_step: Any) -> Any:
    """Two cells of the coarsest level along each axis."""
    return detection_step.Settings(patch=(16, 16, 16), device="cpu", threads=1, rounds=2, steps=2, trained=3)


def test_detection_step_measures_a_method_and_its_views(tmp_path: Path) -> None:
    options = ["--methods", "pseudo_boxes", "--views", "2", "--patch", "16", "16", "16", "--device", "cpu"]
    options += ["--rounds", "1", "--steps", "1", "--trained", "1"]
    command = [sys.executable, str(ROOT / "benchmarks" / "detection_step.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "detection_step.json").read_text())
    supervised, method = result["rows"]
    assert (supervised["method"], supervised["expected_ratio"]) == ("supervised", 1)
    assert method["expected_ratio"] == pytest.approx((4 * 3 + 2) / (2 * 3))
    assert method["over_passes"] == pytest.approx(method["ratio"] / method["expected_ratio"])
    assert 0 < method["outside_share"] < 1
    assert 0 < method["memory_mib"] < 1000
    (views,) = result["views"]
    assert (views["views"], views["patches"], len(views["ratios"])) == (2, 4, 1)
    assert "pseudo_boxes" in done.stdout
    assert "apart, ms" in done.stdout


@pytest.mark.parametrize(
    ("method", "with_gradient", "without"),
    [
        ("supervised", 2, 0),
        ("pseudo_boxes", 4, 2),
        ("focalmix_1_view", 4, 2),
        ("focalmix_2_views", 4, 4),
        ("focalmix_4_views", 4, 8),
        ("no_mixing", 4, 8),
        ("image_mix_only", 4, 8),
        ("object_mix_only", 4, 8),
    ],
)
def test_passes_of_detection_are_those_of_the_docstrings(
    detection_step: Any, small: Any, method: str, with_gradient: int, without: int
) -> None:
    trainer = detection_step.build(method, small)
    before = [weight.clone() for weight in trainer.objective.parameters()]
    passes = detection_step.count_passes(trainer)
    counted = [sum(each.patches for each in passes if each.gradient is learns) for learns in (True, False)]
    assert counted == [small.steps * with_gradient, small.steps * without]
    after = trainer.objective.parameters()
    assert not any(torch.equal(mine, theirs) for mine, theirs in zip(before, after, strict=True))
    mixes = method.startswith("focalmix"), method in ("image_mix_only", "object_mix_only")
    if method != "pseudo_boxes":
        assert trainer.objective.image_mix == (mixes[0] or method == "image_mix_only")
        assert (trainer.objective.object_mix > 0) == (mixes[0] or method == "object_mix_only")


def test_patches_of_detection_hold_one_to_three_bright_boxes(detection_step: Any) -> None:
    batch = detection_step.batch_of((48, 40, 48))
    labeled = batch["labeled"]
    assert batch["unlabeled"].keys() == {"image"}
    assert not torch.equal(labeled["image"], batch["unlabeled"]["image"])
    present = ~labeled["box"].isnan().any(2)
    assert torch.equal(present, labeled["label"] == 0)
    assert torch.equal(~present, labeled["label"] == -1)
    assert all(1 <= count <= 3 for count in present.sum(1))
    for case, row in present.nonzero().tolist():
        low, high = labeled["box"][case, row].long().view(2, 3).tolist()
        assert all(0 <= a < b <= side for a, b, side in zip(low, high, (48, 40, 48), strict=True))
        x, y, z = (slice(a, b) for a, b in zip(low, high, strict=True))
        assert labeled["image"][case, 0, x, y, z].mean() > 2.5
    assert labeled["image"].mean() < 0.3


def test_what_the_detector_has_learned_reaches_every_method(detection_step: Any, small: Any) -> None:
    first = detection_step.detector().state_dict()
    weights = detection_step.trained_weights(small)
    again = detection_step.trained_weights(small)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not all(torch.equal(weights[name], first[name]) for name in weights)
    kept = {name: tensor.clone() for name, tensor in weights.items()}
    trainer = detection_step.build("focalmix_2_views", small, weights)
    state = trainer.objective.network.state_dict()
    assert all(torch.equal(state[name], kept[name]) for name in kept)
    trainer.run()
    assert all(torch.equal(weights[name], kept[name]) for name in kept)
    untrained = detection_step.trained_weights(dataclasses.replace(small, trained=0))
    assert all(torch.equal(untrained[name], first[name]) for name in first)


def test_channels_last_is_a_format_of_images_alone(detection_step: Any, small: Any) -> None:
    trainer = detection_step.build("focalmix_2_views", dataclasses.replace(small, channels_last=True))
    batch = detection_step.prepared(next(iter(trainer.data_loader)), "cpu", **trainer.to_kwargs)
    # a single channel lies the same way in both formats: the strides tell
    assert batch["labeled"]["image"].stride() == (4096, 1, 256, 16, 1)
    assert batch["labeled"]["box"].is_contiguous()
    weights = [weight for weight in trainer.objective.network.parameters() if weight.dim() == 5]
    assert all(weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in weights)
    trainer.run()


def test_outside_is_the_objective_less_its_networks(
    detection_step: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self) -> None:
            clock[0] += 10.0

    class Objective(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.teacher = Network(), Network()

        def forward(self) -> None:
            clock[0] += 1.0
            self.teacher()
            clock[0] += 2.0
            self.network()

    objective = Objective()

    def run() -> None:
        for _ in range(small.steps):
            objective()
            clock[0] += 100.0  # the backward pass

    monkeypatch.setattr(detection_step, "clock", lambda settings: lambda: clock[0])
    trainer = SimpleNamespace(objective=objective, run=run)
    assert detection_step.outside_seconds(trainer, small) == pytest.approx([3.0, 3.0])
    assert not objective._forward_hooks
    assert not objective.network._forward_pre_hooks


def test_both_sides_of_the_views_see_every_view(
    detection_step: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, seen = [0.0], []

    def targets(network: Any, images: torch.Tensor, symmetries: Any) -> None:
        seen.append(list(symmetries))
        clock[0] += 1.0 + len(images) * len(symmetries)

    monkeypatch.setattr(detection_step, "clock", lambda settings: lambda: clock[0])
    monkeypatch.setattr(detection_step, "soft_anchor_targets", targets)
    monkeypatch.setattr(detection_step, "start_process", lambda settings: None)  # it sets what other tests share
    row = detection_step.measure_views(4, small, detection_step.detector().state_dict())
    assert row["ratios"] == pytest.approx([(1 + 8) / (4 * (1 + 2))] * small.rounds)
    assert (row["patches"], row["together_seconds"], row["apart_seconds"]) == (8, 9.0, 12.0)
    assert len(set(seen[0])) == 4
    assert [each for (each,) in seen[1:5]] == seen[0]


def test_the_check_and_the_loader_are_measured_beside_others(tmp_path: Path) -> None:
    output = tmp_path / "check.json"
    options = ["--cases", "4", "--loaded", "4", "--rounds", "1", "--patch", "16", "--output", str(output)]
    command = [sys.executable, str(ROOT / "benchmarks" / "check.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["cases"] == 4
    assert len(result["rows"]) == 4
    for row in result["rows"].values():
        assert row["ratio"] == pytest.approx(row["seconds"] / row["other_seconds"])
    assert "TwoStreamLoader" in done.stdout


def test_both_loaders_of_the_check_give_as_many_batches(tmp_path: Path) -> None:
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "check.py"))
    path = benchmark["write_phantoms"](tmp_path / "data", cases=5, size=(24, 24, 24))
    cases = [{"image": case["image"]} for case in benchmark["load_cases"](path, "training")]
    for cached in (False, True):
        ours, theirs = (call() for call in benchmark["loaders"](cases, 16, cached))
        assert len(ours) == len(theirs) == 2
        assert ours[0]["labeled"]["image"].shape == theirs[0]["image"].shape == (2, 1, 16, 16, 16)


@pytest.mark.parametrize("given", ["data", "generated"])
def test_flipped_labels_are_counted(tmp_path: Path, given: str) -> None:
    write_phantoms(tmp_path / "data", cases=6, modality="CT", size=(24, 24, 24))
    source = ["--data", str(tmp_path / "data")] if given == "data" else ["--generated", "CT", "--cases", "6"]
    options = [*source, "--draws", "3", "--output", str(tmp_path / "flipped.json")]
    command = [sys.executable, str(ROOT / "benchmarks" / "flipped_labels.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "flipped.json").read_text())
    assert result["labels"] == 6
    assert [row["mirrored"] for row in result["rows"]] == ["none", "1, each in turn", "5 %", "half"]
    assert [row["recall"] for row in result["rows"]] == [None, 1.0, 1.0, 1.0]
    assert {row["false"] for row in result["rows"]} == {0.0}
    assert "mirrored ones found" in done.stdout


def test_near_copies_are_counted(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "data", cases=4, size=(24, 24, 24))
    output = tmp_path / "copies.json"
    options = ["--data", str(tmp_path / "data"), "--copies", "2", "--output", str(output)]
    command = [sys.executable, str(ROOT / "benchmarks" / "near_copies.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert (result["scans"], result["pairs"], result["told"]) == (4, 6, 0)
    assert result["recall"]["mirrored"] == 1.0
    assert "cropped by 0 to 3 voxels a side" in done.stdout
