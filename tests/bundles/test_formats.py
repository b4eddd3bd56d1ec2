"""Any scan that a researcher has: every format, DICOM series and folders of nnU-Net, trained on and segmented."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from tests.bundles.helpers import (
    PRETRAINING,
    pretrain,
    read_json,
    run_bundle,
    spoil,
    train,
    write_list,
    write_nifti,
)
from tests.data.scan_files import write_scan, write_series

FORMATS = ("a.nii.gz", "b.nrrd", "c.mha", "d.mhd", "1.2.840.7")


def scan(seed, shape=(24, 20, 18)):
    """A bright body on noise, which a label follows."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    body = (grid**2).sum(0) < 0.4
    image = np.random.default_rng(seed).normal(100, 10, shape) + 300 * body
    return image.astype(np.int16), body.astype(np.uint8)


def affine(spacing=(1.2, 1.0, 1.5), degrees=12):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    result = np.eye(4)
    result[:3, :3] = turn @ np.diag(spacing)
    result[:3, 3] = (-30.5, 12.25, 400)
    return result


def write_formats(folder):
    """A list whose cases are of all formats, those of one format with labels of another."""
    entries = []
    for number, name in enumerate(FORMATS):
        image, label = scan(number)
        path = folder / "images" / name
        (write_series if name.startswith("1.") else write_scan)(path, image, affine())
        ending = (".nrrd", ".nii.gz", ".mha", ".nrrd", ".mhd")[number]
        write_scan(folder / "labels" / f"case{number}{ending}", label, affine())
        entries.append({"image": f"images/{name}", "label": f"labels/case{number}{ending}"})
    labels = {"0": "background", "1": "body"}
    unlabeled = [{"image": entry["image"]} for entry in entries[3:]]
    parts = {"training": entries[:3], "unlabeled": unlabeled, "validation": [], "test": []}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, **parts}))
    held = {"training": entries[:1], "unlabeled": [], "validation": [], "test": entries[1:]}
    (folder / "held.json").write_text(json.dumps({"labels": labels, **held}))
    return folder


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    return write_formats(tmp_path_factory.mktemp("formats"))


@pytest.fixture(scope="module")
def run(formats, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    train("mean_teacher", dataset_dir=str(formats), output_dir=str(folder))
    return folder


def check_prediction(path, shape, to_mm):
    output = nib.load(path)
    assert output.shape == shape
    assert abs(output.affine - to_mm).max() < 1e-3
    assert output.get_data_dtype() == np.uint8
    return np.asanyarray(output.dataobj)


def test_every_format_is_trained_on_scored_and_segmented_alike(formats, run, tmp_path):
    run_bundle(
        "evaluate.yaml",
        **{
            "weights": str(run / "model.pt"),
            "datalist": str(formats / "held.json"),
            "output_dir": str(tmp_path / "eval"),
        },
    )
    cases = read_json(tmp_path / "eval" / "metrics.json")["cases"]
    assert [case["image"] for case in cases] == list(FORMATS[1:])
    same = tmp_path / "same"
    image, _ = scan(0)
    for name in FORMATS:
        (write_series if name.startswith("1.") else write_scan)(same / name, image, affine())
    # beside files, a series is taken for their source
    for given in (same, same / FORMATS[-1]):
        run_bundle("inference.yaml", weights=str(run / "model.pt"), image=str(given), output_dir=str(tmp_path / "out"))
    found = [
        check_prediction(tmp_path / "out" / f"{name}_seg.nii.gz", image.shape, affine())
        for name in ("a", "b", "c", "d", "1.2.840.7")
    ]
    assert len(list((tmp_path / "out").iterdir())) == len(FORMATS)
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_pseudo_labels_lie_on_scans_of_every_format(formats, tmp_path):
    train("pseudo_label", dataset_dir=str(formats), output_dir=str(tmp_path / "run"))
    for name in ("d", "1.2.840.7"):
        check_prediction(tmp_path / "run/pseudo_labels/round_1" / f"{name}.nii.gz", (24, 20, 18), affine())


def test_a_folder_of_series_is_pretrained_on_and_segmented(run, tmp_path):
    for number in range(2):
        write_series(tmp_path / "in" / f"1.2.{number}", scan(number)[0], affine())
    pretrain(dataset_dir=str(tmp_path / "in"), output_dir=str(tmp_path / "pretrained"))
    assert read_json(tmp_path / "pretrained" / "seen_scans.json")["count"] == 2
    run_bundle(
        "inference.yaml", weights=str(run / "model.pt"), image=str(tmp_path / "in"), output_dir=str(tmp_path / "out")
    )
    for number in range(2):
        check_prediction(tmp_path / "out" / f"1.2.{number}_seg.nii.gz", (24, 20, 18), affine())


def write_nnunet(folder, channels=2):
    for part, names in {"Tr": "abcd", "Ts": "tu"}.items():
        for number, name in enumerate(names):
            image, label = scan(number + (10 if part == "Ts" else 0))
            for channel in range(channels):
                write_scan(folder / f"images{part}" / f"{name}_000{channel}.nrrd", image + 50 * channel, affine())
            if name not in "du":
                write_scan(folder / f"labels{part}" / f"{name}.nrrd", label, affine())
    names = {str(channel): f"T{channel + 1}" for channel in range(channels)}
    labels = {"background": 0, "body": 1}
    content = {"channel_names": names, "labels": labels, "numTraining": 3, "file_ending": ".nrrd"}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_a_folder_of_nnunet_with_two_channels_is_used_as_it_is(tmp_path, mistake):
    folder = write_nnunet(tmp_path / "Dataset004_X")
    train("mean_teacher", dataset_dir=str(folder), output_dir=str(tmp_path / "run"))
    trained = read_json(tmp_path / "run" / "preprocessing.json")
    assert (trained["in_channels"], trained["class_names"]) == (2, ["background", "body"])
    weights = str(tmp_path / "run" / "model.pt")
    run_bundle("evaluate.yaml", weights=weights, dataset_dir=str(folder), output_dir=str(tmp_path / "eval"))
    cases = read_json(tmp_path / "eval" / "metrics.json")["cases"]
    assert [case["image"] for case in cases] == ["t_0000.nrrd"]
    run_bundle("inference.yaml", weights=weights, image=str(folder / "imagesTs"), output_dir=str(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["t_seg.nii.gz", "u_seg.nii.gz"]
    check_prediction(tmp_path / "out" / "t_seg.nii.gz", (24, 20, 18), affine())

    # both channels are looked at
    other = tmp_path / "other"
    shutil.copytree(folder / "imagesTs", other)
    (other / "t_0001.nrrd").unlink()
    told = mistake("inference.yaml", weights=weights, image=str(other), dataset_dir=None)
    assert "t_0000.nrrd: has 1 channels, the network takes 2 (in_channels)" in told
    write_scan(other / "t_0001.nrrd", scan(2)[0][:-1], affine())
    told = mistake("inference.yaml", weights=weights, image=str(other), dataset_dir=None)
    assert "t_0001.nrrd: is 23 x 20 x 18 voxels, its first channel 24 x 20 x 18" in told


def test_a_pretraining_takes_the_channels_of_an_nnunet_folder(tmp_path):
    folder = write_nnunet(tmp_path / "Dataset004_X")
    pretrain(dataset_dir=str(folder), output_dir=str(tmp_path / "run"))
    assert read_json(tmp_path / "run" / "preprocessing.json")["in_channels"] == 2
    assert read_json(tmp_path / "run" / "seen_scans.json")["count"] == 4
    settings = {"weights": str(tmp_path / "run" / "model.pt"), "image": str(folder / "imagesTs")}
    run_bundle("inference.yaml", bundle=PRETRAINING, output_dir=str(tmp_path / "out"), **settings)
    assert (tmp_path / "out" / "embeddings.csv").read_text().count("\n") == 3


def test_channels_in_one_file_stay_as_they_are(tmp_path):
    path = write_list(tmp_path / "data")
    for file in (tmp_path / "data").glob("images*/*.nii.gz"):
        image = nib.load(file)
        write_nifti(file, np.stack([image.get_fdata(dtype=np.float32)] * 2, -1), image.affine)
    spoil(path.parent, lambda content: content.update(modality={"0": "T1", "1": "T2"}))
    train("supervised", dataset_dir=str(path.parent), output_dir=str(tmp_path / "run"))
    assert read_json(tmp_path / "run" / "preprocessing.json")["in_channels"] == 2


def test_a_series_that_is_no_volume_is_told_in_one_line(run, tmp_path, mistake):
    folder = write_series(tmp_path / "series", scan(0)[0], affine())
    (folder / "007.dcm").unlink()
    told = mistake("inference.yaml", weights=str(run / "model.pt"), image=str(folder), dataset_dir=None)
    assert "a slice is missing, or they are uneven" in told
    # nor does another reader fill up a file that is cut off
    cut = write_scan(tmp_path / "cut.mha", scan(0)[0], affine())
    cut.write_bytes(cut.read_bytes()[:-1000])
    told = mistake("inference.yaml", weights=str(run / "model.pt"), image=str(cut), dataset_dir=None)
    assert "cut.mha: holds 16280 of the 17280 bytes that its header claims" in told
