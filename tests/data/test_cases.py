from __future__ import annotations

import builtins
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from monai_ssl.data.cases import load_cases, load_images
from monai_ssl.data.datalist import class_names
from monai_ssl.data.leaks import check_leaks
from monai_ssl.utils.errors import UserError
from tests.data.list_entries import case, files


def test_load_resolves_against_the_list_or_dataset_dir(write, tmp_path, monkeypatch):
    path = write({"training": [{"image": "./images/a.nii.gz", "label": "labels/a.nii.gz", "fold": 2}]}, files("a"))
    here = load_cases(path, "training")
    assert here == [{"image": f"{tmp_path}/images/a.nii.gz", "label": f"{tmp_path}/labels/a.nii.gz", "fold": 2}]
    (tmp_path / "lists").mkdir()
    moved = path.rename(tmp_path / "lists" / "split.json")
    assert load_cases(moved, "training", tmp_path) == here
    monkeypatch.chdir(tmp_path)
    assert load_cases("lists/split.json", "training", ".") == here
    with pytest.raises(UserError, match=rf"2 of 2 files of `training` do not exist.* relative to {tmp_path}/lists: "):
        load_cases(moved, "training")


def test_load_takes_absolute_paths_and_an_absent_part_is_empty(write, tmp_path):
    write({}, files("a"), name="ignored")
    path = write({"training": [{key: f"{tmp_path}/{key}s/a.nii.gz" for key in ("image", "label")}]})
    assert load_cases(path, "training", tmp_path)[0]["label"] == f"{tmp_path}/labels/a.nii.gz"
    assert load_cases(path, "validation") == load_cases(path, "test") == load_cases(path, "unlabeled") == []


@pytest.mark.parametrize("part", ["training", "validation", "test"])
def test_labelled_parts_demand_labels(write, part):
    path = write({part: [case("a"), {"image": "images/b.nii.gz"}]}, files("a", "b"))
    with pytest.raises(UserError, match=rf"entry 2 of `{part}` \(images/b\.nii\.gz\) has no `label`.*`unlabeled`"):
        load_cases(path, part)


def test_classes_are_labels_only_where_they_are_asked_for(write, tmp_path):
    cases = [{"image": "images/a.nii.gz", "label": 0}, {"image": "images/b.nii.gz", "label": 3, "patient": 5}]
    path = write({"training": cases, "labels": {"0": "benign"}}, files("a", "b", folders=["images"]))
    loaded = load_cases(path, "training", class_labels=True)
    assert [case["label"] for case in loaded] == [0, 3]
    assert loaded[1] == {"image": f"{tmp_path}/images/b.nii.gz", "label": 3, "patient": "5"}
    # what reads names, paths and patients alone takes both kinds
    assert class_names(path) == ["benign"]
    check_leaks(path)
    with pytest.raises(UserError, match=r"entry 1 of `training` .*`label` must be a path as a string, got 0"):
        load_cases(path, "training")


@pytest.mark.parametrize("label", [-1, 1.0, True, [1]])
def test_a_class_is_a_whole_number_from_0(write, label):
    path = write({"training": [{"image": "a", "label": label}]})
    with pytest.raises(UserError, match=r"a path as a string, or a class as a whole number from 0, got"):
        load_cases(path, "training", class_labels=True)


def boxed(name, boxes=1, **more):
    return {"image": f"images/{name}.nii.gz", "box": [[1, 2, 3, 4, 5, 6.5]] * boxes, "label": [0] * boxes, **more}


def test_boxes_are_labels_only_where_they_are_asked_for(write, tmp_path):
    cases = [boxed("a", patient=5), boxed("b", boxes=0), case("c")]
    path = write({"training": cases, "labels": {"0": "nodule"}}, [*files("a", "b", folders=["images"]), *files("c")])
    first, healthy, masked = load_cases(path, "training", boxes=True)
    assert first == {**boxed("a", patient="5"), "image": f"{tmp_path}/images/a.nii.gz"}
    assert healthy == {"image": f"{tmp_path}/images/b.nii.gz", "box": [], "label": []}
    assert masked["label"] == f"{tmp_path}/labels/c.nii.gz"
    # what reads names, paths and patients alone takes boxes too
    assert class_names(path) == ["nodule"]
    assert len(load_images(path)) == 3
    check_leaks(path)
    with pytest.raises(UserError, match=r"entry 1 of `training` .*`label` must be a path as a string, got \[0\]"):
        load_cases(path, "training")


def test_an_unlabelled_case_has_no_boxes(write, tmp_path):
    wrong = boxed("b", boxes=2, label=[9])
    path = write({"training": [], "unlabeled": [boxed("a"), wrong]}, files("a", "b", folders=["images"]))
    assert load_cases(path, "unlabeled", boxes=True) == [{"image": f"{tmp_path}/images/{n}.nii.gz"} for n in "ab"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (boxed("a", label=[0, 0]), "one class for each of 1 boxes, got 2"),
        (boxed("a", label=[1]), r"from 0 to 0 \(`labels` names 1\), got 1"),
        (boxed("a", box=[[0, 0, 0, 9, 9, -9]]), "centre and size"),
        (boxed("a", label=None), "got none"),
        ({"image": "images/a.nii.gz", "label": [0]}, "no `box`"),
        ({"image": "images/a.nii.gz", "label": 3}, "or a list of one class for each box, got 3"),
        (case("a", box=[[1, 2, 3, 4, 5, 6]]), "has `box` and a mask as `label`: leave out one"),
        ({"image": "images/a.nii.gz"}, "has no `label`"),
    ],
)
def test_wrong_boxes_are_named_by_list_and_entry(write, entry, message):
    path = write({"training": [boxed("b"), entry], "labels": {"nodule": 0}}, files("a", "b"))
    with pytest.raises(UserError, match=message) as raised:
        load_cases(path, "training", boxes=True)
    assert str(raised.value).startswith(f"{path}: entry 2 of `training` (images/a.nii.gz)")


def test_a_background_is_no_class_of_boxes(write):
    names = {"0": "background", "1": "nodule"}
    path = write({"training": [boxed("a")], "labels": names}, files("a"))
    with pytest.raises(UserError, match=r"entry 1 of `training` .*`labels` must name .*without a background"):
        load_cases(path, "training", boxes=True)
    assert load_cases(write({"training": [case("a")], "labels": names}, files("a")), "training", boxes=True)


def test_a_box_beside_another_label_stays_a_further_entry(write):
    cases = [case("a", box=[1, 2, 3]), {"image": "images/b.nii.gz", "label": 1, "box": "whole"}]
    path = write({"training": cases}, [*files("a"), *files("b", folders=["images"])])
    assert [entry["box"] for entry in load_cases(path, "training", class_labels=True)] == [[1, 2, 3], "whole"]
    assert len(load_images(path)) == 2


def test_images_of_all_parts_each_once_and_no_label(write, tmp_path):
    data = {"test": ["images/d.nii.gz"], "training": [case("a"), {"image": "images/b.nii.gz", "label": 1}]}
    data |= {"unlabeled": ["images/c.nii.gz", "./images/a.nii.gz"]}
    path = write(data, files(*"abcd", folders=["images"]))  # not a label file exists
    assert load_images(path) == [{"image": f"{tmp_path}/images/{name}.nii.gz"} for name in "abcd"]
    with pytest.raises(UserError, match="has no case"):
        load_images(write({"training": []}))
    with pytest.raises(UserError, match="1 of 1 files of `test` do not exist"):
        load_images(write({"test": ["gone.nii.gz"]}))


def test_missing_files_are_counted_and_five_are_named(write, tmp_path):
    path = write({"training": [case(f"case{i}") for i in range(4)]}, files("case0"))
    with pytest.raises(UserError, match=r"6 of 8 files of `training` do not exist") as raised:
        load_cases(path, "training")
    assert "images/case1.nii.gz" in str(raised.value)
    assert "images/case3.nii.gz, ...." in str(raised.value)
    assert "labels/case3.nii.gz" not in str(raised.value)
    assert f"relative to {tmp_path}" in str(raised.value)


def test_unknown_part_and_folder_are_named(write, tmp_path):
    path = write({"training": []})
    with pytest.raises(UserError, match="`part` must be one of training, unlabeled, validation, test, got 'train'"):
        load_cases(path, "train")
    with pytest.raises(UserError, match="`dataset_dir` must be a folder"):
        load_cases(path, "training", tmp_path / "nowhere")


# --- leak guard -----------------------------------------------------------------------------------------------------


@pytest.fixture
def touched(monkeypatch):
    """Records every path that is opened or looked up, through ``open``, ``os.stat`` and their relatives."""
    paths = []

    def spy(module, name):
        real = getattr(module, name)

        def recording(path, *args, **kwargs):
            if isinstance(path, (str, os.PathLike)):
                paths.append(os.fspath(path))
            return real(path, *args, **kwargs)

        monkeypatch.setattr(module, name, recording)

    for module, name in [(builtins, "open"), (io, "open"), (os, "open"), (os, "stat"), (os, "lstat"), (os, "access")]:
        spy(module, name)
    return paths


def test_an_unlabelled_case_is_its_image_and_nothing_else(write, tmp_path):
    entries = [case("a", patient="p", fold=1, mask="labels/a.nii.gz"), "images/b.nii.gz"]
    path = write({"training": [], "unlabeled": entries}, files("a", "b", folders=("images",)))
    assert load_cases(path, "unlabeled") == [{"image": f"{tmp_path}/images/{name}.nii.gz"} for name in "ab"]


@pytest.mark.parametrize("label", ["labels/absent.nii.gz", "labels/fifo", 17, {"path": "x"}])
def test_the_label_of_an_unlabelled_case_is_never_touched(write, tmp_path, touched, label):
    (tmp_path / "labels").mkdir()
    os.mkfifo(tmp_path / "labels" / "fifo")  # opening it would hang
    image = "images/a.nii.gz"
    path = write({"training": [], "unlabeled": [{"image": image, "label": label}]}, [image])
    touched.clear()
    assert load_cases(path, "unlabeled", tmp_path) == [{"image": f"{tmp_path}/{image}"}]
    check_leaks(path, tmp_path)
    assert any(name.endswith(image) for name in touched), "the spy must see the image being looked up"
    assert not [name for name in touched if "labels" in name]


def test_the_label_of_an_unlabelled_case_is_never_touched_as_the_system_sees_it(write, tmp_path):
    """The same through Python's audit events, which no import of `open` can slip past."""
    image = "images/a.nii.gz"
    path = write({"training": [], "unlabeled": [case("a")]}, files("a"))
    code = (
        "import sys; seen = []; sys.addaudithook(lambda event, args: seen.append((event, args)))\n"
        "from monai_ssl.data import check_leaks, load_cases\n"
        f"load_cases({str(path)!r}, 'unlabeled'); check_leaks({str(path)!r})\n"
        "opened = [str(args[0]) for event, args in seen if event == 'open']\n"
        f"assert {str(path)!r} in opened and not [name for name in opened if name.endswith('.nii.gz')], opened\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert (tmp_path / image).exists()


def test_other_parts_are_not_looked_up(write, touched):
    path = write({"training": [case("a")], "validation": [case("v")], "test": [case("t")]}, files("a"))
    touched.clear()
    load_cases(path, "training")
    assert not [name for name in touched if name.endswith(("v.nii.gz", "t.nii.gz"))]


@pytest.mark.parametrize("part", ["training", "unlabeled"])
def test_a_pipe_is_no_scan(write, tmp_path, part):
    path = write({part: [case("a"), case("b")]}, files("a", "b"))
    (tmp_path / "images/b.nii.gz").unlink()
    os.mkfifo(tmp_path / "images/b.nii.gz")
    with pytest.raises(UserError, match=rf"1 of [24] files of `{part}` are pipes or devices: images/b.nii.gz. Name"):
        load_cases(path, part)
    (tmp_path / "images/b.nii.gz").unlink()
    (tmp_path / "images/b.nii.gz").mkdir()  # of a DICOM series, which reading it will tell
    assert len(load_cases(path, part)) == 2
