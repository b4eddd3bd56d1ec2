from __future__ import annotations

from pathlib import Path

import pytest

from monai_ssl.utils.fingerprint import _list_hash, file_digest
from tests.utils.small_config import values

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")


def test_the_fingerprint_names_what_decides_the_numbers_and_not_where_it_runs(config: Path) -> None:
    base = values(config, "print")
    assert all(isinstance(name, str) and isinstance(value, str) for name, value in base.items())
    assert base["network_def::in_features"] == "6"
    assert base["train::crop::0::size"] == "@half"
    machinery = {"bundle_root": "/x", "dataset_dir": "/data", "output_dir": "/o", "device": "cuda:1", "debug": True}
    assert values(config, "print", **machinery, **{"train#handlers": []}) == base
    for name, value in {"seed": 1, "max_steps": 9, "modality": "CT", "network_def#bias": False}.items():
        other = values(config, "print", **{name: value})
        changed = {key for key in base.keys() | other.keys() if base.get(key) != other.get(key)}
        assert name.replace("#", "::") in changed


def test_the_fingerprint_knows_the_cases_and_not_their_folder() -> None:
    cases = [{"image": "/a/b/c.nii", "label": "/a/l/c.nii"}, {"image": "/a/b/d.nii", "label": "/a/l/d.nii"}]
    moved = [{key: "/elsewhere" + value for key, value in case.items()} for case in cases]
    assert _list_hash(moved) == _list_hash(cases)
    assert _list_hash(cases).startswith("2 (")
    others = [cases[:1], cases[::-1], [cases[0], {**cases[1], "image": "/a/b/e.nii"}], []]
    assert len({_list_hash(each) for each in (cases, *others)}) == 5


def test_a_file_is_its_content_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first, moved, changed = tmp_path / "model.pt", tmp_path / "other" / "start.pt", tmp_path / "changed.pt"
    first.write_bytes(b"weights")
    moved.write_bytes(b"weights")
    changed.write_bytes(b"weighty")
    assert file_digest(first) == file_digest(moved) != file_digest(changed)
    assert file_digest(None) == file_digest("") == "none"
    assert file_digest(tmp_path / "missing.pt") == "missing.pt"
