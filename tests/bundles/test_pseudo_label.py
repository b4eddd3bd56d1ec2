"""Pseudo-label rounds from data to label maps: the files they leave, resumed and not, with and without workers."""

from __future__ import annotations

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.handlers.checkpoint import CheckpointWriter
from monai_ssl.utils.errors import find_user_error
from tests.bundles.helpers import load, train, write_list
from tests.helpers import same

STEPS = {"max_steps": 6, "save_interval": 1, "val_interval": 100}  # rounds begin after steps 2 and 4
CASES = ["left/scan", "right/scan", "right/thick"]
CLASSES = ["background", "lobe", "gland", "node"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A list whose unlabelled scans have equal names, other orientations and thick slices."""
    path = write_list(tmp_path_factory.mktemp("data"), validation=0)
    content = json.loads(path.read_text())
    for entry, case in zip(content["unlabeled"], CASES, strict=True):
        file = path.parent / "imagesUn" / f"{case}.nii.gz"
        file.parent.mkdir(exist_ok=True)
        (path.parent / entry["image"]).rename(file)
        entry["image"] = str(file.relative_to(path.parent))
    thick = nib.load(path.parent / content["unlabeled"][2]["image"])
    spaced = thick.affine @ np.diag([1.0, 1.0, 2.0, 1.0])
    nib.save(
        nib.Nifti1Image(thick.get_fdata(dtype=np.float32)[:, :, ::2], spaced),
        path.parent / "imagesUn/right/thick.nii.gz",
    )
    turned = nib.load(path.parent / "imagesUn/left/scan.nii.gz").as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(turned, path.parent / "imagesUn/left/scan.nii.gz")
    path.write_text(json.dumps(content))
    return path.parent


def run(data, output, *methods, **settings):
    settings = {"objective#threshold": 0.3, "objective#decay": 0.9, "rounds": 2, **STEPS, **settings}
    train(*(methods or ["pseudo_label"]), dataset_dir=str(data), output_dir=str(output), **settings)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Folder of a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(data, folder)
    return folder


def rows(path):
    with open(path, newline="") as stream:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(stream)]


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check_same(folder, whole):
    assert same(load(folder / "model.pt"), load(whole / "model.pt"))
    assert same(load(folder / "resume.pt")["objective"], load(whole / "resume.pt")["objective"])
    assert rows(folder / "steps.csv") == rows(whole / "steps.csv")
    assert files(folder / "pseudo_labels") == files(whole / "pseudo_labels")


def test_every_round_leaves_labels_in_the_scans_own_voxels_and_their_counts(data, whole):
    for number in (1, 2):
        folder = whole / "pseudo_labels" / f"round_{number}"
        assert set(files(folder)) == {"kept.csv", *(f"{case}.nii.gz" for case in CASES)}
        table, kept = rows(folder / "kept.csv"), np.zeros(4, int)
        assert [(row["case"], row["class"]) for row in table] == [
            (c, k) for c in [*CASES, "(all cases)"] for k in CLASSES
        ]
        for index, case in enumerate(CASES):
            image, label = nib.load(data / "imagesUn" / f"{case}.nii.gz"), nib.load(folder / f"{case}.nii.gz")
            assert label.shape == image.shape
            assert np.array_equal(label.affine, image.affine)
            values = np.asanyarray(label.dataobj)
            assert values.dtype == np.uint8
            counts = np.bincount(values.ravel(), minlength=256)
            assert counts[255] > 0
            assert counts[4:255].sum() == 0
            mine = table[4 * index : 4 * index + 4]
            assert [int(row["kept"]) for row in mine] == counts[:4].tolist()
            assert sum(int(row["predicted"]) for row in mine) == values.size
            kept += counts[:4]
        assert [int(row["kept"]) for row in table[-4:]] == kept.tolist()
        for row in table:
            if int(row["predicted"]):
                assert float(row["share"]) == int(row["kept"]) / int(row["predicted"])
    assert files(whole / "pseudo_labels" / "round_1") != files(whole / "pseudo_labels" / "round_2")


def test_the_log_has_the_term_from_the_first_step_and_learns_it_from_the_first_round(whole):
    table = rows(whole / "steps.csv")
    assert [float(row["weight_pseudo"]) for row in table] == [0, 0, 1, 1, 1, 1]
    assert [float(row["pseudo"]) > 0 for row in table] == [False] * 2 + [True] * 4
    assert all(0 < float(row["kept"]) < 1 for row in table[2:])


def test_labels_in_the_list_change_nothing(data, whole, tmp_path):
    """A label that anybody opened would be refused: it is no image."""
    copied = shutil.copytree(data, tmp_path / "data")
    content = json.loads((copied / "dataset.json").read_text())
    for entry in content["unlabeled"]:
        entry["label"] = entry["image"].replace("imagesUn", "labelsUn")
        (copied / entry["label"]).parent.mkdir(parents=True, exist_ok=True)
        (copied / entry["label"]).write_bytes(b"no image")
    (copied / "dataset.json").write_text(json.dumps(content))
    run(copied, tmp_path / "run")
    check_same(tmp_path / "run", whole)


def test_the_run_is_the_same_cached_and_with_workers(data, whole, tmp_path):
    run(data, tmp_path / "run", num_workers=2, cache_rate=1.0)
    check_same(tmp_path / "run", whole)


def stop_after(step, monkeypatch):
    """End the process's work right after the checkpoint of this step, as a kill would."""
    save = CheckpointWriter._save_if_due

    def save_and_stop(self, engine):
        save(self, engine)
        if engine.state.iteration == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointWriter, "_save_if_due", save_and_stop)


# where the second round begins, within the first and the second
@pytest.mark.parametrize("step", [4, 3, 5])
def test_a_resumed_run_is_the_same(step, data, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(step, patched)
        with pytest.raises(KeyboardInterrupt):
            run(data, tmp_path / "run")
    assert load(tmp_path / "run" / "resume.pt")["iteration"] == step
    if step == 5:  # a file less is told, and nothing is harmed
        label = tmp_path / "run" / "pseudo_labels" / "round_2" / "right" / "scan.nii.gz"
        label.rename(tmp_path / "aside")
        with pytest.raises(RuntimeError) as error:
            run(data, tmp_path / "run", resume="true")
        assert "right/scan.nii.gz: is not there" in str(find_user_error(error.value))
        (tmp_path / "aside").rename(label)
    run(data, tmp_path / "run", resume="true", num_workers=2 * (step == 3))
    check_same(tmp_path / "run", whole)


def test_without_rounds_it_is_the_supervised_method(data, tmp_path):
    run(data, tmp_path / "rounds", rounds=0, **{"objective#decay": None})
    train("supervised", dataset_dir=str(data), output_dir=str(tmp_path / "supervised"), **STEPS)
    assert same(load(tmp_path / "rounds" / "model.pt"), load(tmp_path / "supervised" / "model.pt"))
    assert not (tmp_path / "rounds" / "pseudo_labels").exists()


def test_more_rounds_than_the_run_has_room_for(data, tmp_path):
    with pytest.raises(RuntimeError) as error:
        run(data, tmp_path / "run", rounds=3)
    assert "need 4 epochs or more; 6 steps with epoch_length 2 are 3" in str(find_user_error(error.value))
