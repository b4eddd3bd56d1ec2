from __future__ import annotations

import json
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import monai_ssl
from monai_ssl.utils import weight_files
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.weight_files import read_best, read_plain, save_safetensors
from tests.helpers import same

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]


def bits(value: Tensor) -> bytes:
    return value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def awkward() -> dict[str, Tensor]:
    whole = torch.randn(4, 6)
    strange = torch.tensor([float("nan"), -0.0, float("inf"), 1e-45])
    return {
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 5),
        "strange": strange,
        "channels last": torch.randn(2, 3, 4, 4, 4).to(memory_format=torch.channels_last_3d),
        "transposed": whole.t(),
        "part": whole[1:3, ::2],
        "other part": whole[1:3],
        "whole": whole,
        "tied": whole,
        "parameter": nn.Parameter(torch.randn(3)),
        **{str(dtype): torch.arange(5).to(dtype) for dtype in DTYPES},
    }


def test_every_tensor_comes_back_bit_for_bit(tmp_path: Path) -> None:
    state = awkward()
    save_safetensors(state, tmp_path / "model.safetensors")
    for read in (read_plain(tmp_path / "model.safetensors"), load_file(tmp_path / "model.safetensors")):
        assert read.keys() == state.keys()
        for name, value in state.items():
            assert (read[name].dtype, read[name].shape) == (value.dtype, value.shape), name
            assert bits(read[name]) == bits(value), name


def test_tied_weights_have_every_name_and_are_tied_again_in_the_network(tmp_path: Path) -> None:
    def network() -> nn.Sequential:
        layers = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.BatchNorm1d(3))
        layers[2].weight = layers[0].weight
        return layers

    trained = network()
    save_safetensors(trained.state_dict(), tmp_path / "model.safetensors")
    loaded = network()
    loaded.load_state_dict(read_plain(tmp_path / "model.safetensors"))
    assert same(dict(loaded.state_dict()), dict(trained.state_dict()))
    assert loaded[0].weight is loaded[2].weight


def test_writing_leaves_the_weights_as_they_are(tmp_path: Path) -> None:
    state = awkward()
    before = {name: (value.data_ptr(), value.stride()) for name, value in state.items()}
    save_safetensors(state, tmp_path / "model.safetensors")
    assert {name: (value.data_ptr(), value.stride()) for name, value in state.items()} == before


def test_the_file_says_its_format_and_version_alone(tmp_path: Path) -> None:
    save_safetensors({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt", "monai_ssl": monai_ssl.__version__}
    assert header.keys() == {"weight"}


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_safetensors({"weight": torch.ones(2)}, path)
    before = path.read_bytes()

    def killed(source: Any, target: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save_safetensors({"weight": torch.zeros(2)}, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_what_torch_writes_is_read(tmp_path: Path) -> None:
    state = OrderedDict(awkward())
    for zipped in (True, False):
        torch.save({"model": state, "step": 3}, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
        content = read_plain(tmp_path / "model.pt")
        assert content["step"] == 3
        assert all(bits(content["model"][name]) == bits(value) for name, value in state.items())


def test_an_archive_that_grows_is_refused_before_torch_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(1000)}, path)
    with zipfile.ZipFile(path) as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    monkeypatch.setattr(weight_files.torch, "load", lambda *a, **k: pytest.fail("was read"))
    with pytest.raises(UserError, match=r"model\.pt: holds more than its size"):
        read_plain(path)


def test_a_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(path))  # type: ignore[no-untyped-call]
    with pytest.raises(UserError, match=r"model\.pt: is a TorchScript archive, which is a program"):
        read_plain(path)


@pytest.mark.parametrize(
    "value",
    [torch.ones(1).expand(2000, 2000), torch.ones(3).to_sparse(), torch.ones(3, device="meta")],
    ids=["repeated", "sparse", "meta"],
)
@pytest.mark.filterwarnings("ignore:.*[Ss]parse:UserWarning")
def test_a_tensor_without_values_of_its_own_is_refused(value: Tensor, tmp_path: Path) -> None:
    torch.save({"optimizer": [{"state": (value,)}]}, tmp_path / "resume.pt")
    with pytest.raises(UserError, match=r"resume\.pt: holds a tensor without values of its own"):
        read_plain(tmp_path / "resume.pt")


def test_a_small_buffer_may_repeat_itself(tmp_path: Path) -> None:
    torch.save({"positions": torch.arange(3).expand(100, 3)}, tmp_path / "model.pt")
    assert read_plain(tmp_path / "model.pt")["positions"].shape == (100, 3)


BEST = {"step": 2, "score": 0.5, "summary": {"mean": {}}, "network": {"weight": torch.ones(1)}}


@pytest.mark.parametrize("entry", BEST)
def test_the_best_checkpoint_is_read_whole_or_named(entry: str, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    torch.save(BEST, path)
    assert read_best(path).keys() == BEST.keys()
    torch.save({**BEST, entry: "other"}, path)
    with pytest.raises(UserError, match=r"best\.pt: cannot be read .* \(an entry is missing or broken\)\. Restore it"):
        read_best(path)
    torch.save({name: value for name, value in BEST.items() if name != entry}, path)
    with pytest.raises(UserError, match=r"best\.pt: cannot be read .* \(KeyError\)"):
        read_best(path)
    torch.save({**BEST, "more": np.float64(1)}, path)
    with pytest.raises(UserError, match=r"best\.pt: cannot be read .* \(UnpicklingError\)"):
        read_best(path)
