from __future__ import annotations

import builtins
import hashlib
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import monai_ssl.data
from monai_ssl.data.seen_scans import warn_of_seen_scans, write_seen_scans
from monai_ssl.utils.errors import UserError


def identity(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def cases(*images: Any) -> list[dict[str, Any]]:
    return [{"image": str(image)} for image in images]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def listed(tmp_path: Path) -> Any:
    """Writes a list into a data set's folder, which has no other file."""

    def listed(name: str = "data", **parts: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "dataset.json").write_text(json.dumps(parts))
        return folder / "dataset.json"

    return listed


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_the_file_has_a_count_and_sorted_digests(tmp_path: Path) -> None:
    path = tmp_path / "seen_scans.json"
    write_seen_scans(path, cases(*(f"/data/set/images/scan_{number}.nii.gz" for number in range(7))))
    content = json.loads(path.read_text())
    assert content == {"count": 7, "scans": sorted(identity(f"images/scan_{number}.nii.gz") for number in range(7))}
    assert content["scans"] != [identity(f"images/scan_{number}.nii.gz") for number in range(7)]


def test_no_name_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "seen_scans.json"
    write_seen_scans(path, [{"image": "/clinic/smith_john/mri.nii.gz", "patient": "smith_john"}])
    text = path.read_text()
    assert not any(word in text for word in ("smith", "john", "mri", "nii", "clinic"))
    assert [len(scan) for scan in json.loads(text)["scans"]] == [16]


def test_names_that_do_not_tell_scans_apart_are_a_doubt(
    run: Path, listed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path, data = run / "seen_scans.json", listed(test=["patient_3/mri/scan.nii.gz"])
    write_seen_scans(path, cases("/d/patient_1/mri/scan.nii.gz", "/d/patient_2/mri/scan.nii.gz"))
    assert json.loads(path.read_text()) == {"count": 2, "scans": [identity("mri/scan.nii.gz")]}
    assert warn_of_seen_scans(run / "model.pt", data)["test"] == 1
    (warning,) = warnings(caplog)
    assert "file name (2 scans of it share 1 such names: some may be others)." in warning


def test_a_file_that_is_listed_twice_is_one_scan(tmp_path: Path) -> None:
    path = tmp_path / "seen_scans.json"
    write_seen_scans(path, cases("/d/images/a.nii.gz", "/d/./images/a.nii.gz"))
    assert json.loads(path.read_text()) == {"count": 1, "scans": [identity("images/a.nii.gz")]}


def test_a_bare_file_name_is_known_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_seen_scans("seen_scans.json", cases("a.nii.gz", "./x/../b.nii.gz"))
    scans = json.loads((tmp_path / "seen_scans.json").read_text())["scans"]
    assert scans == sorted(identity(f"{tmp_path.name}/{name}.nii.gz") for name in "ab")


def test_a_pretraining_without_cases_saw_nothing(run: Path, listed: Any, caplog: pytest.LogCaptureFixture) -> None:
    write_seen_scans(run / "seen_scans.json", [])
    assert json.loads((run / "seen_scans.json").read_text()) == {"count": 0, "scans": []}
    assert warn_of_seen_scans(run / "model.pt", listed(test=["a.nii.gz"])) == {"validation": 0, "test": 0}
    assert warnings(caplog) == []


def test_one_warning_counts_by_part(run: Path, listed: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = listed(
        unlabeled=["images/u.nii.gz"],
        training=[{"image": "images/t.nii.gz", "label": "labels/t.nii.gz"}],
        validation=[{"image": f"images/v{n}.nii.gz", "label": f"labels/v{n}.nii.gz"} for n in range(3)],
        test=["./images/s0.nii.gz", {"image": "images/s1.nii.gz"}, {"image": "images/s2.nii.gz", "label": 3}],
    )
    seen = ["u", "t", "v0", "v2", "s0", "s1", "s2"]
    write_seen_scans(run / "seen_scans.json", cases(*(path.parent / f"images/{name}.nii.gz" for name in seen)))
    assert warn_of_seen_scans(run / "model.pt", path) == {"validation": 2, "test": 3}
    (warning,) = warnings(caplog)
    assert f"{run / 'model.pt'} saw 2 of the 3 scans of `validation` and 3 of the 3 scans of `test`" in warning
    assert "(v0.nii.gz, v2.nii.gz, s0.nii.gz, ..)" in warning
    assert "s1.nii.gz" not in warning
    assert "It saw no label, but these are no unseen scans" in warning
    assert "Pretrain on a list whose `unlabeled` is without them." in warning


def test_scans_with_boxes_are_counted_like_others(run: Path, listed: Any) -> None:
    entry = {"box": [[0, 0, 0, 5, 5, 5]], "label": [0]}
    path = listed(training=[{"image": "images/t.nii.gz", **entry}], test=[{"image": "images/s.nii.gz", **entry}])
    write_seen_scans(run / "seen_scans.json", cases("/elsewhere/images/s.nii.gz"))
    assert warn_of_seen_scans(run / "model.pt", path) == {"validation": 0, "test": 1}


def test_only_the_part_that_was_seen_is_named(run: Path, listed: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = listed(validation=[], test=["images/a.nii.gz", "images/b.nii.gz"])
    write_seen_scans(run / "seen_scans.json", cases("/elsewhere/images/b.nii.gz"))
    assert warn_of_seen_scans(str(run / "model.pt"), str(path), None) == {"validation": 0, "test": 1}
    (warning,) = warnings(caplog)
    assert "saw 1 of the 2 scans of `test` (b.nii.gz), going by" in warning
    assert "validation" not in warning


def test_seen_labelled_training_scans_are_no_matter(run: Path, listed: Any, caplog: pytest.LogCaptureFixture) -> None:
    entry = {"image": "images/a.nii.gz", "label": "labels/a.nii.gz"}
    path = listed(training=[entry], unlabeled=["images/b.nii.gz"], validation=[{**entry, "image": "images/c.nii.gz"}])
    write_seen_scans(run / "seen_scans.json", cases("/d/images/a.nii.gz", "/d/images/b.nii.gz"))
    assert warn_of_seen_scans(run / "model.pt", path) == {"validation": 0, "test": 0}
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("image", "count"),
    [
        ("/moved/images/a.nii.gz", 1),
        ("/data/other/a.nii.gz", 0),
        ("/data/images/b.nii.gz", 0),
        ("/x/images/A.nii.gz", 0),
    ],
)
def test_folder_and_file_name_make_the_scan(image: str, count: int, run: Path, listed: Any) -> None:
    path = listed(test=["images/a.nii.gz"])
    write_seen_scans(run / "seen_scans.json", cases(image))
    assert warn_of_seen_scans(run / "model.pt", path)["test"] == count


def test_paths_are_relative_to_dataset_dir_else_to_the_list(
    run: Path, listed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = listed(test=["a.nii.gz"])
    (tmp_path / "scans").mkdir()
    write_seen_scans(run / "seen_scans.json", cases("/d/scans/a.nii.gz"))
    assert warn_of_seen_scans(run / "model.pt", path)["test"] == 0
    assert warn_of_seen_scans(run / "model.pt", path, tmp_path / "scans")["test"] == 1
    write_seen_scans(run / "seen_scans.json", cases("/d/data/a.nii.gz"))
    assert warn_of_seen_scans(run / "model.pt", None, path.parent)["test"] == 1
    monkeypatch.chdir(path.parent)  # the folder has a name from within, too
    assert warn_of_seen_scans(run / "model.pt", "dataset.json")["test"] == 1
    assert warn_of_seen_scans(run / "model.pt", None, ".")["test"] == 1


def test_weights_without_the_file_are_one_line_of_information(
    run: Path, listed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert warn_of_seen_scans(run / "model.pt", listed(test=["a.nii.gz"])) == {}
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert str(run / "seen_scans.json") in record.getMessage()
    assert "cannot be told whether the pretraining saw" in record.getMessage()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"seen_scans\.json: cannot be read as JSON \(.*Restore it from the pretraining, or remove it\."),
        (b"\x1f\x8b\xff", r"seen_scans\.json: cannot be read as JSON"),
        (b"[]", r"seen_scans\.json: must be a JSON object of `count`, a number, and `scans`, a .* Restore it"),
        (b'{"count": 3}', "must be a JSON object of"),
        (b'{"scans": ["ab"]}', "must be a JSON object of"),
        (b'{"count": "1", "scans": ["ab"]}', "`count`, a number"),
        (b'{"count": 1, "scans": "ab"}', "a list of strings"),
        (b'{"count": 1, "scans": [["ab"]]}', "a list of strings"),
        (b"null", "must be a JSON object"),
    ],
)
def test_a_broken_file_is_named_with_its_remedy(content: bytes, message: str, run: Path, listed: Any) -> None:
    (run / "seen_scans.json").write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        warn_of_seen_scans(run / "model.pt", listed(test=["a.nii.gz"]))
    assert "\n" not in str(raised.value)


def test_nothing_but_the_two_json_files_is_opened(run: Path, listed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = listed(test=[{"image": "images/a.nii.gz", "label": "labels/a.nii.gz"}])
    for folder in ("images", "labels"):
        (path.parent / folder).mkdir()
        (path.parent / folder / "a.nii.gz").write_bytes(b"never opened")
    scans = cases(path.parent / "images/a.nii.gz")
    opened: list[Path] = []
    for module in (builtins, io):
        original = module.open

        def spy(file: Any, *args: Any, original: Any = original, **more: Any) -> Any:
            if not isinstance(file, int):
                opened.append(Path(os.fspath(file)))
            return original(file, *args, **more)

        monkeypatch.setattr(module, "open", spy)
    write_seen_scans(run / "seen_scans.json", scans)
    assert warn_of_seen_scans(run / "model.pt", path)["test"] == 1
    assert {file.name for file in opened if not file.name.startswith(".")} == {"seen_scans.json", "dataset.json"}


def test_the_package_offers_both_and_loads_monai_for_neither_before_it_is_used() -> None:
    assert monai_ssl.data.write_seen_scans is write_seen_scans
    assert monai_ssl.data.warn_of_seen_scans is warn_of_seen_scans
    code = "import sys, monai_ssl.data; sys.exit(', '.join({'monai', 'torch'} & {*sys.modules}) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True)
