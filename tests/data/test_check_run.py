from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.data import check_processes
from monai_ssl.data.check_facts import KINDS, ScanFacts
from monai_ssl.data.check_run import check_data
from monai_ssl.data.check_scan import read_facts
from monai_ssl.data.phantoms import write_phantoms
from monai_ssl.utils.errors import UserError
from tests.data.check_files import BROKEN, SHAPE, image_voxels, make_case, make_data, save, write_list
from tests.data.scan_files import oblique_affine, voxels, write_scan, write_series

ALSO = {"image as label": {"label_values"}}  # what else is wrong with such a file


def kinds(path: Path, **more: Any) -> list[str]:
    return [fault.kind for fault in check_data(path, **more).faults]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_clean_data_set_has_no_fault(tmp_path: Path, jobs: int) -> None:
    data, _ = make_data(tmp_path)
    calls: list[tuple[int, int]] = []
    result = check_data(write_list(tmp_path, data), jobs=jobs, progress=lambda *call: calls.append(call))
    assert result.faults == ()
    assert (result.cases, result.files) == (12, 22)
    assert result.size == sum(path.stat().st_size for path in tmp_path.glob("*/[!u]*.gz")) + sum(
        path.stat().st_size for path in tmp_path.glob("images/u*.gz")
    )
    assert calls == [(n, 22) for n in range(1, 23)]


@pytest.mark.parametrize("name", BROKEN)
def test_one_fault_is_that_fault_alone(tmp_path: Path, name: str) -> None:
    kind, change = BROKEN[name]
    data, cases = make_data(tmp_path)
    change(cases[2])
    begin = time.monotonic()
    found = check_data(write_list(tmp_path, data))
    assert time.monotonic() - begin < 10
    assert {fault.kind for fault in found.faults} - ALSO.get(name, set()) == {kind}
    assert {(fault.part, fault.case) for fault in found.faults} == {("training", "training2")}
    assert {fault.file for fault in found.faults} <= set(cases[2].entry.values())
    assert found.errors == (len(found.faults) if KINDS[kind].level == "error" else 0)
    assert all(fault.text and fault.remedy and "\n" not in fault.text for fault in found.faults)


def test_all_faults_are_named_in_one_run(tmp_path: Path) -> None:
    assert len(BROKEN) >= 40
    data, _ = make_data(tmp_path)
    for number, (name, (_, change)) in enumerate(BROKEN.items()):
        case = make_case(tmp_path, f"case{number}", 1000 + number)
        change(case)
        data["training"].append({**case.entry, "name": name})
    found = {(fault.file, fault.kind) for fault in check_data(write_list(tmp_path, data), jobs=2).faults}
    missed = []
    for entry, (name, (kind, _)) in zip(data["training"][6:], BROKEN.items(), strict=True):
        if not {(entry["image"], kind), (entry["label"], kind)} & found:
            missed.append((name, kind))
    assert missed == []


LISTS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "no object": ("entry", lambda data: data["training"].append(3)),
    "no image": ("entry", lambda data: data["unlabeled"].append({"label": "a.nii.gz"})),
    "image of a number": ("entry", lambda data: data["test"].append({"image": 3})),
    "label of a list": ("entry", lambda data: data["training"][0].update(label=[1])),
    "no label": ("no_label", lambda data: data["validation"][0].pop("label")),
    "part is an object": ("list", lambda data: data.update(unlabeled={"a": 1})),
    "labels of 1 and 2": ("labels", lambda data: data.update(labels={"0": "background", "2": "liver"})),
    "labels by no number": ("labels", lambda data: data.update(labels=["background", "liver", "tumour"])),
    "a name twice": ("labels", lambda data: data.update(labels={"0": "a", "1": "b", "2": "b"})),
    "modality of a number": ("list", lambda data: data.update(modality=1)),
    "two channels": ("channels", lambda data: data.update(modality={"0": "T1", "1": "T2"})),
    "image in two parts": ("same_image", lambda data: data["test"].append(data["training"][1])),
    "test case unlabelled": ("leak", lambda data: data["unlabeled"].append({"image": "./" + data["test"][0]["image"]})),
    "listed twice": ("duplicate", lambda data: data["training"].append(data["training"][1])),
    "class nobody has": ("missing_class", lambda data: data["labels"].update({"3": "vessel"})),
    "some patients": ("some_patients", lambda data: data["test"][0].update(patient="p1")),
    "patient in two parts": (
        "same_patient",
        lambda data: [e.update(patient=f"p{n % 8}") for p in ("training", "test", "validation", "unlabeled")
                      for n, e in enumerate(data[p], {"training": 0, "test": 5, "validation": 8, "unlabeled": 2}[p])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_one_fault_of_the_list_is_that_fault_alone(tmp_path: Path, name: str) -> None:
    kind, change = LISTS[name]
    data, _ = make_data(tmp_path)
    change(data)
    assert set(kinds(write_list(tmp_path, data))) == {kind}


@pytest.mark.parametrize(
    ("voxels", "affine", "kind"),
    [
        (image_voxels(95) * 1000, [1, 1.5, 2], "far_intensity"),
        (image_voxels(95) - 1024, [1, 1.5, 2], "far_intensity"),
        (image_voxels(95), [1, 1.5, 6], "far_spacing"),
    ],
)
def test_a_scan_far_from_the_rest_is_told(tmp_path: Path, voxels: Any, affine: list[float], kind: str) -> None:
    data, _ = make_data(tmp_path)
    save(tmp_path / "images" / "unlabeled1.nii.gz", voxels, np.diag([*affine, 1.0]))
    (fault,) = check_data(write_list(tmp_path, data)).faults
    assert (fault.kind, fault.case, fault.level) == (kind, "unlabeled1", "warning")


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [("training0", "test1", "same_content"), ("validation1", "unlabeled0", "leak"), ("test0", "test1", "duplicate")],
)
def test_a_copy_under_another_name_is_told(tmp_path: Path, first: str, second: str, kind: str) -> None:
    data, _ = make_data(tmp_path)
    # other bytes of the same values
    copied = nib.load(tmp_path / "images" / f"{first}.nii.gz").get_fdata()
    save(tmp_path / "images" / f"{second}.nii.gz", copied)
    (fault,) = check_data(write_list(tmp_path, data)).faults
    assert (fault.kind, fault.case) == (kind, second)
    assert f"{first}.nii.gz" in fault.text


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_labels_that_lost_their_side_are_told(tmp_path: Path, ending: str, jobs: int) -> None:
    path = write_phantoms(tmp_path / "data", cases=6, modality="CT", size=(32, 32, 24))
    data = json.loads(path.read_text())
    for number, entry in enumerate(data["training"]):
        image, label = (nib.load(path.parent / entry[key]) for key in ("image", "label"))
        sides = np.asarray(label.dataobj)[:: -1 if number in (1, 4) else 1]
        entry["label"] = entry["label"].replace(".nii.gz", ending)
        write_scan(path.parent / entry["label"], sides, image.affine)
    result = check_data(write_list(path.parent, data), jobs=jobs)
    assert [(f.kind, f.case) for f in result.faults] == [("flipped_label", f"phantom_00{n}") for n in (1, 4)]
    assert result.faults[0].file == f"./labelsTr/phantom_001{ending}"


def test_a_small_volume_is_told_with_a_patch_size(tmp_path: Path) -> None:
    data, _ = make_data(tmp_path)
    path = write_list(tmp_path, data)
    assert kinds(path, patch_size=SHAPE) == []
    assert kinds(path, patch_size=(12, 11, 8)) == ["small"] * 12


def test_patients_by_an_expression(tmp_path: Path) -> None:
    data, _ = make_data(tmp_path)
    path = write_list(tmp_path, data)
    assert kinds(path, patient_regex=r"[a-z]+\d") == []
    assert set(kinds(path, patient_regex=r"\d")) == {"same_patient"}
    assert set(kinds(path, patient_regex=r"test\d")) == {"patient_regex"}


def test_the_label_of_an_unlabelled_case_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = make_data(tmp_path)
    asked: list[str] = []

    def read(path: str, *more: Any) -> ScanFacts:
        asked.append(path)
        return read_facts(path, *more)

    monkeypatch.setattr(check_processes, "read_facts", read)
    assert kinds(write_list(tmp_path, data), jobs=1) == []
    assert len(asked) == len(set(asked)) == 22
    assert not [path for path in asked if "labels/unlabeled" in path]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"training": [}', "line 1, column 15"),
        ("", "not valid JSON"),
        ("[]", "must be an object"),
        ('{"name": "x"}', "at least one of the parts"),
        ("\xff\xfe", "cannot be read as a JSON text file"),
        ("[" * 100_000, "nested too deeply"),
        ('{"training": [], "n": ' + "1" * 5000 + "}", "cannot be read|limit"),
        ('{"training": [{"image": "\\ud800", "label": 3.5}]}', "characters that are no text"),
    ],
)
def test_an_unreadable_list_is_a_fault(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "list.json"
    path.write_bytes(text.encode("latin-1"))
    (fault,) = check_data(path).faults
    assert (fault.kind, fault.level, fault.file) == ("list", "error", "list.json")
    assert re.search(words, fault.text)


def test_every_bad_entry_is_named(tmp_path: Path) -> None:
    path = write_list(tmp_path, {"training": [1, {"image": ""}, {"image": "a\0b", "label": ""}], "test": [None]})
    found = [(fault.part, fault.case, fault.kind) for fault in check_data(path).faults]
    assert ("training", "entry 1", "entry") in found
    assert ("training", "entry 2", "entry") in found
    assert ("test", "entry 1", "entry") in found
    assert ("training", "entry 3", "entry") in found
    assert len(found) == 4


def test_little_memory_is_enough_for_what_claims_much(tmp_path: Path) -> None:
    data, cases = make_data(tmp_path)
    names = ("bomb", "30000 cubed", "1024 cubed")
    for case, name in zip(cases, names, strict=False):
        BROKEN[name][1](case)
    path = write_list(tmp_path, data)
    program = (
        "import resource, sys, time, json; resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000,) * 2)\n"
        "from monai_ssl.data.check_run import check_data\n"
        f"begin = time.monotonic(); found = check_data({str(path)!r}).faults\n"
        "print(json.dumps([time.monotonic() - begin, [(f.case, f.kind) for f in found]]))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    seconds, found = json.loads(done.stdout)
    assert found == [[f"training{n}", BROKEN[name][0]] for n, name in enumerate(names)]
    assert seconds < 10
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 1_500_000_000  # the limit was the other process's


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"jobs": 0}, "`jobs` must be at least 1, got 0"),
        ({"max_gigabytes": float("nan")}, "`max_gigabytes` must be above 0, got nan"),
        ({"patch_size": (4, 4)}, r"`patch_size` must be three lengths from 1, got \[4, 4\]"),
        ({"patch_size": (4, 0, 4)}, "`patch_size` must be three lengths"),
        ({"dataset_dir": "/nowhere"}, "`dataset_dir` must be a folder"),
        ({"patient_regex": "("}, "`patient_regex` must be a regular expression"),
    ],
)
def test_wrong_arguments(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    path = write_list(tmp_path, {"training": [{"image": "a.nii.gz"}]})
    with pytest.raises(UserError, match=words):
        check_data(path, **more)


def test_real_data_has_no_error(hippocampus: Path) -> None:
    result = check_data(hippocampus, jobs=2)
    assert [fault for fault in result.faults if fault.level == "error"] == []
    assert result.files == 400
    # scanners differ by a factor of a thousand there, and that is told
    assert {fault.kind for fault in result.faults} == {"far_intensity"}


def test_a_list_of_many_formats(tmp_path: Path) -> None:
    entries = []
    for number, name in enumerate(("a.nrrd", "b.mha", "c.mhd", "1.2.3")):
        write = write_series if name == "1.2.3" else write_scan
        write(tmp_path / "images" / name, voxels(number), oblique_affine())
        label = (voxels(number) > 0).astype(np.uint8)
        write_scan(tmp_path / "labels" / f"{number}.nrrd", label, oblique_affine())
        entries.append({"image": f"images/{name}", "label": f"labels/{number}.nrrd"})
    labels = {"0": "background", "1": "liver"}
    path = write_list(tmp_path, {"training": entries, "labels": labels})
    result = check_data(path, jobs=2)
    assert (result.faults, result.cases, result.files) == ((), 4, 8)

    write_scan(tmp_path / "labels/0.nrrd", 3 * voxels(0)[:-1], oblique_affine())
    write_scan(tmp_path / "images/b.mha", voxels(3), oblique_affine())
    (tmp_path / "images/1.2.3/006.dcm").unlink()
    found = {(fault.case, fault.kind) for fault in check_data(path).faults}
    assert found == {("a", "shape"), ("a", "label_values"), ("1.2.3", "series")}


def test_channels_in_several_files_are_all_read(tmp_path: Path) -> None:
    for number, case in enumerate("abcd"):
        for channel in range(2):
            array = voxels(10 * number + channel).astype(np.float32)
            write_scan(tmp_path / f"imagesTr/{case}_000{channel}.nii.gz", array, oblique_affine())
        write_scan(tmp_path / f"labelsTr/{case}.nii.gz", (voxels(number) > 0).astype(np.uint8), oblique_affine())
    content = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "liver": 1}}
    path = write_list(tmp_path, {**content, "numTraining": 4, "file_ending": ".nii.gz"})
    result = check_data(path)
    assert (result.faults, result.cases, result.files) == ((), 4, 12)

    array = voxels(1).astype(np.float32)
    array[0, 0, 0] = np.nan
    write_scan(tmp_path / "imagesTr/a_0001.nii.gz", array, oblique_affine())
    write_scan(tmp_path / "imagesTr/b_0001.nii.gz", voxels()[:-1], oblique_affine())
    (tmp_path / "imagesTr/c_0001.nii.gz").write_bytes(b"")
    faults = {(fault.case, fault.kind): fault.text for fault in check_data(path).faults}
    assert set(faults) == {("a_0000", "non_finite"), ("b_0000", "shape"), ("c_0000", "empty")}
    assert faults["b_0000", "shape"] == (
        "has a channel, b_0001.nii.gz, that has 11 x 14 x 9 voxels, its first channel 12 x 14 x 9"
    )
    # a list whose paths are those files says what nnU-Net's folder says by itself
    entries = [{"image": f"imagesTr/{case}_0000.nii.gz", "label": f"labelsTr/{case}.nii.gz"} for case in "ad"]
    (tmp_path / "imagesTr/d_0002.nii.gz").write_bytes(b"")
    path = write_list(tmp_path, {**content, "training": entries})
    faults = {(fault.case, fault.kind): fault.text for fault in check_data(path).faults}
    assert set(faults) == {("a_0000", "non_finite"), ("d_0000", "channels")}
    assert "d_0002.nii.gz: is one channel more than the 2" in faults["d_0000", "channels"]
