from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_ssl.utils import pickle_marks
from monai_ssl.utils.pickle_marks import doubts_of_pickles, globals_of, holds_pickles
from tests.payloads import ARMED, HOSTILE


@pytest.mark.parametrize("form", ARMED)
def test_what_would_be_called_is_named_and_not_called(form: str, tmp_path: Path) -> None:
    path, victim = tmp_path / "model.pt", tmp_path / "victim"
    ARMED[form](path, victim)
    assert holds_pickles(path)
    doubts = doubts_of_pickles(path)
    assert any(word in " ".join(doubts) for word in ("system", "exec", "eval", "call", "partial")), doubts
    assert not victim.exists()


@pytest.mark.parametrize(
    ("form", "doubt"),
    [
        ("legacy tar", "is a tar archive"),
        ("TorchScript", "which is a program"),
        ("object array", "array of type object"),
        ("empty", "cannot be read as pickles"),
        ("zip bomb", "opcodes|larger|ValueError"),
    ],
)
def test_what_is_none_is_told(form: str, doubt: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    HOSTILE[form](path, tmp_path / "victim")
    assert re.search(doubt, " ".join(doubts_of_pickles(path)))


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_that_torch_reads_as_weights_are_not_doubted(zipped: bool, tmp_path: Path) -> None:
    tensors = {
        str(dtype): torch.zeros(3).to(dtype) for dtype in (torch.float16, torch.bfloat16, torch.int8, torch.bool)
    }
    content = {
        "state": OrderedDict(torch.nn.Conv3d(1, 2, 3).state_dict()),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        **tensors,
        "plain": [1, 0.5, "a", None, True, (torch.Size([1]), torch.float32, torch.device("cpu"), {1, 2})],
        "more": [Counter("ab"), bytearray(b"a"), b"b", 1j],
    }
    path = tmp_path / "model.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    torch.load(path, weights_only=True)
    assert doubts_of_pickles(path) == []


def test_a_framework_s_checkpoint_is_told(tmp_path: Path) -> None:
    torch.save({"weights": {}, "best": np.float64(1)}, tmp_path / "model.pt")
    assert "scalar" in " ".join(doubts_of_pickles(tmp_path / "model.pt"))


@pytest.mark.parametrize(
    ("pickled", "found"),
    [
        (b"cos\nsystem\n.", ["os.system"]),
        (b"(S'a'\nios\nsystem\n.", ["os.system"]),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", ["os.system"]),
        (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93.", ["os.system"]),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x94h\x05\x93.", ["?"]),
        (b"\x80\x04\x8c\x02osN\x93.", ["?"]),
        (b"\x80\x02\x82\x01.", ["?"]),
        (b"\x80\x02]q\x00.", []),
    ],
)
def test_every_way_to_name_a_global(pickled: bytes, found: list[str]) -> None:
    assert list(globals_of(io.BytesIO(pickled))) == found


def test_the_work_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x02" + b"N0" * 1000 + b"N.")
    assert doubts_of_pickles(path) == []
    monkeypatch.setattr(pickle_marks, "_MOST", 500)
    assert doubts_of_pickles(path) == ["cannot be read as pickles (ValueError)"]
    with zipfile.ZipFile(tmp_path / "many.pt", "w") as archive:
        for number in range(30):
            archive.writestr(f"{number}.pkl", pickle.dumps(1))
    assert doubts_of_pickles(tmp_path / "many.pt") == [
        "holds more than 20 pickles, of which the rest was not looked at"
    ]
    monkeypatch.setattr(pickle_marks, "_LARGEST", 3)
    assert "larger than 3 bytes" in " ".join(doubts_of_pickles(tmp_path / "many.pt"))


def test_pickles_are_found_by_their_content_too(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(pickle.dumps([1], protocol=4))
    (tmp_path / "real.txt").write_text("text")
    (tmp_path / "empty").touch()
    assert holds_pickles(tmp_path / "notes.txt")
    assert not holds_pickles(tmp_path / "real.txt")
    assert not holds_pickles(tmp_path / "empty")
