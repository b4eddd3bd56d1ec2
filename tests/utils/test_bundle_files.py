from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import monai_ssl.utils.bundle_files as bundle_files
from monai_ssl.utils.bundle_files import (
    bundle_metadata,
    bundle_names,
    bundle_path,
    copy_bundle,
    mark_trained,
    mark_untrained,
)
from monai_ssl.utils.errors import UserError

TRAIN = """\
# top of the file
imports: ["$import monai_ssl"]   # stays

modality: MRI  # MRI or CT
spacing: [1.0, 1.0, 1.0]  # mm; 0.5 to 5, not #1
class_names:
- background
- thing  # an old name
# belongs to the network

network_def:   # any network
  _target_: monai.networks.nets.UNet
  channels: [8, 16]

  # inside the network
  strides: [2]
"quoted": "a # b"  # of two
out: "$len(@class_names)"
train: {modality: kept, deep: [1,
  2]}
spacing_more: 3
"""
EVALUATE = "spacing: [1.0, 1.0, 1.0]\nother: 1\n"
METADATA = {
    "version": "0.0.1",
    "description": "a fake",
    "network_data_format": {
        "inputs": {"image": {"num_channels": 1}},
        "outputs": {"pred": {"type": "image", "num_channels": 2, "channel_def": {"0": "background", "1": "thing"}}},
    },
}
VALUES = {
    "modality": "CT",
    "spacing": [1.5, 1.5, 1e-05],
    "class_names": ["background", "off", 'Léber: "a" # b'],
    "network_def": {"_target_": "monai.networks.nets.DynUNet", "norm": ["instance", {"affine": True}], "dropout": None},
}


def make_bundle(root, name):
    configs = root / name / "configs"
    configs.mkdir(parents=True)
    (configs / "metadata.json").write_text(json.dumps(METADATA))
    (configs / "train.yaml").write_text(TRAIN)
    (configs / "evaluate.yaml").write_text(EVALUATE)
    (root / name / "models").mkdir()
    (root / name / "models" / "model.pt").write_text("somebody's run")
    (root / name / "docs").mkdir()
    (root / name / "docs" / "README.md").write_text("read me")
    return root / name


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A package with a bundle of its own and one that a checkout has beside it."""
    package = tmp_path / "site" / "monai_ssl"
    monkeypatch.setattr(bundle_files, "__file__", str(package / "utils" / "bundle_files.py"))
    make_bundle(package / "bundles", "semi_segmentation")
    make_bundle(package.parent / "bundles", "pretrain")
    (package.parent / "bundles" / "no_bundle").mkdir()
    return package.parent


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.pt").write_bytes(b"weights")
    (folder / "preprocessing.json").write_text(json.dumps(VALUES))
    return folder


def test_bundles_are_found_in_the_package_and_beside_it(checkout):
    assert bundle_names() == ["pretrain", "semi_segmentation"]
    assert bundle_path("semi_segmentation") == checkout / "monai_ssl" / "bundles" / "semi_segmentation"
    assert bundle_path("pretrain") == checkout / "bundles" / "pretrain"
    assert bundle_metadata("pretrain")["version"] == "0.0.1"


def test_the_package_goes_before_the_checkout(checkout):
    make_bundle(checkout / "bundles", "semi_segmentation")
    assert bundle_path("semi_segmentation").parents[1].name == "monai_ssl"


def test_an_unknown_name_gets_the_nearest(checkout):
    with pytest.raises(UserError, match=r"got 'semi_segmentaton': the nearest is 'semi_segmentation'"):
        bundle_path("semi_segmentaton")


def test_no_bundles_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_files, "__file__", str(tmp_path / "a" / "b" / "bundle_files.py"))
    assert bundle_names() == []
    with pytest.raises(UserError, match="this installation has none"):
        bundle_path("x")


def test_broken_metadata_names_the_file(checkout):
    (bundle_path("pretrain") / "configs" / "metadata.json").write_text("[")
    with pytest.raises(UserError, match=r"metadata\.json: cannot be read as JSON"):
        bundle_metadata("pretrain")


def test_a_copy_has_every_file_but_no_run(checkout, tmp_path):
    target = copy_bundle("pretrain", tmp_path / "new" / "mine")
    assert (target / "configs" / "train.yaml").read_text() == TRAIN
    assert (target / "docs" / "README.md").is_file()
    assert list((target / "models").iterdir()) == []
    assert list(target.parent.iterdir()) == [target], "no temporary folder stays"


def test_a_copy_goes_into_an_empty_folder_even_the_current_one(checkout, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    copy_bundle("pretrain", ".")
    assert (tmp_path / "empty" / "configs" / "metadata.json").is_file()
    with pytest.raises(UserError, match="empty: the folder to copy to must be new or empty"):
        copy_bundle("pretrain", ".")


def test_a_copy_never_replaces_a_file(checkout, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="must be new or empty"):
        copy_bundle("pretrain", tmp_path / "file")


def test_the_copy_of_a_read_only_bundle_can_be_written(checkout, run, tmp_path):
    for path in bundle_path("pretrain").rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    target = copy_bundle("pretrain", tmp_path / "mine", run)
    assert (target / "configs" / "train.yaml").stat().st_mode & 0o200


def test_a_runs_values_take_the_place_of_the_same_keys(checkout, run, tmp_path):
    target = copy_bundle("pretrain", tmp_path / "mine", run)
    baked, before = (yaml.safe_load(text) for text in ((target / "configs/train.yaml").read_text(), TRAIN))
    assert baked == {**before, **VALUES}
    assert list(baked) == list(before)
    assert isinstance(baked["spacing"][2], float), "YAML reads JSON's 1e-05 as text"
    assert yaml.safe_load((target / "configs/evaluate.yaml").read_text()) == {"spacing": VALUES["spacing"], "other": 1}
    assert (target / "models" / "model.pt").read_bytes() == b"weights"
    assert json.loads((target / "models" / "preprocessing.json").read_text()) == VALUES
    assert (bundle_path("pretrain") / "configs" / "train.yaml").read_text() == TRAIN


def test_everything_else_stays_to_the_letter(checkout, run, tmp_path):
    lines = (copy_bundle("pretrain", tmp_path / "mine", run) / "configs" / "train.yaml").read_text().splitlines()
    assert lines[:5] == [
        *TRAIN.splitlines()[:3],
        "modality: CT  # MRI or CT",
        "spacing: [1.5, 1.5, 1.0e-05]  # mm; 0.5 to 5, not #1",
    ]
    text = "\n".join(lines)
    assert "\n# belongs to the network\n\n# any network\nnetwork_def:\n" in text
    assert text.endswith(TRAIN[TRAIN.index('"quoted"') :].rstrip())
    assert "inside the network" not in text
    assert "an old name" not in text


def test_channels_follow_the_class_names(checkout, run, tmp_path):
    written = json.loads((copy_bundle("pretrain", tmp_path / "mine", run) / "configs" / "metadata.json").read_text())
    pred = written["network_data_format"]["outputs"]["pred"]
    assert pred["channel_def"] == {"0": "background", "1": "off", "2": 'Léber: "a" # b'}
    assert pred["num_channels"] == 3
    assert pred["type"] == "image"
    assert written["network_data_format"]["inputs"] == METADATA["network_data_format"]["inputs"]


@pytest.mark.parametrize("file", ["model.pt", "preprocessing.json"])
def test_a_folder_that_is_no_run_is_refused_and_nothing_stays(checkout, run, tmp_path, file):
    (run / file).unlink()
    with pytest.raises(UserError, match=rf"run: `run` must be the output_dir .* no {file}"):
        copy_bundle("pretrain", tmp_path / "mine", run)
    assert not (tmp_path / "mine").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "site"]


def test_a_run_of_another_bundle_is_refused(checkout, run, tmp_path):
    (run / "preprocessing.json").write_text(json.dumps({"spacing": [1], "mask_ratio": 0.6}))
    with pytest.raises(UserError, match="no config of pretrain has the key `mask_ratio`"):
        copy_bundle("pretrain", tmp_path / "mine", run)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("app", [False, True])
def test_an_app_gets_no_inference_of_a_pretraining(app, tmp_path):
    """It would be offered to people as a segmentation; what a server trains is there."""
    (tmp_path / "model").mkdir()
    if app:
        (tmp_path / "main.py").touch()
    files = {
        name: {path.name for path in (copy_bundle(name, tmp_path / "model" / name) / "configs").glob("*.yaml")}
        for name in ("ssl_pretraining", "semi_segmentation")
    }
    assert {"train.yaml", "inference.yaml"} <= files["semi_segmentation"]
    assert "train.yaml" in files["ssl_pretraining"]
    assert ("inference.yaml" in files["ssl_pretraining"]) is not app


def test_what_finishes_a_copy_sees_it_whole_and_may_refuse_it(checkout, run, tmp_path):
    def finish(copy):
        assert (copy / "models" / "model.pt").is_file()
        (copy / "mark").touch()

    assert (copy_bundle("pretrain", tmp_path / "mine", run, finish) / "mark").is_file()

    def refuse(copy):
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        copy_bundle("pretrain", tmp_path / "other", finish=refuse)
    assert not (tmp_path / "other").exists()


def test_the_description_says_that_a_model_is_untrained(checkout):
    bundle = bundle_path("pretrain")
    for _ in range(2):
        mark_untrained(bundle)
        assert bundle_metadata("pretrain") == {**METADATA, "description": "Untrained: a fake"}
    mark_trained(bundle)  # its model.pt says nothing of that kind
    assert bundle_metadata("pretrain") == METADATA
    mark_trained(bundle / "nowhere")


@pytest.mark.parametrize("name", bundle_names())
def test_each_shipped_bundle_takes_its_own_values_back(name, tmp_path):
    """Every top-level value of every config can be baked in without changing another."""
    metadata = bundle_metadata(name)
    assert metadata["version"]
    assert metadata["description"]
    source = bundle_path(name)
    values = {}
    for config in bundle_files.CONFIGS:
        if (source / config).is_file():
            values |= yaml.safe_load((source / config).read_text())
    values.pop("class_names", None)
    target = copy_bundle(name, tmp_path / "mine", values=values)
    for config in bundle_files.CONFIGS:
        if (source / config).is_file():
            before = yaml.safe_load((source / config).read_text())
            after = yaml.safe_load((target / config).read_text())
            assert after == {key: values.get(key, before[key]) for key in before}
    assert (source / "configs" / "metadata.json").read_text() == (target / "configs" / "metadata.json").read_text()


def test_the_shipped_bundles_lie_beside_the_package():
    for name in bundle_names():
        assert Path(bundle_path(name), "configs", "metadata.json").is_file()
