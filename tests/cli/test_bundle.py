from __future__ import annotations

import json
import re

import pytest
import torch
import yaml

import monai_ssl.utils.bundle_files as bundle_files
from tests.cli.helpers import monai_ssl


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_files, "__file__", str(tmp_path / "monai_ssl" / "utils" / "bundle_files.py"))
    folder = tmp_path / "bundles" / "semi_segmentation"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text('{"version": "1.2.3", "description": "with [brackets]"}')
    (folder / "configs" / "inference.yaml").write_text("spacing: [1, 1, 1]  # mm\n")
    return folder


def test_bundles_lists_them(bundle):
    words = monai_ssl("bundles").stdout.split()
    assert {"semi_segmentation", "1.2.3", "[brackets]"} <= set(words)


def test_path_prints_the_path_alone(bundle):
    assert monai_ssl("path", "semi_segmentation").stdout == f"{bundle}\n"
    result = monai_ssl("path", "semi_segmentatoin")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the nearest is 'semi_segmentation'" in result.stderr


def test_init_copies_and_bakes(bundle, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.pt").touch()
    (run / "preprocessing.json").write_text('{"spacing": [2, 2, 2]}')
    result = monai_ssl("init", "semi_segmentation", tmp_path / "mine", "--from", run)
    assert result.exit_code == 0
    assert (tmp_path / "mine" / "configs" / "inference.yaml").read_text() == "spacing: [2, 2, 2]  # mm\n"
    result = monai_ssl("init", "semi_segmentation", tmp_path / "mine")
    assert result.exit_code == 1
    assert "must be new or empty" in result.stderr


def test_init_sets_values_in_every_config_at_once(tmp_path):
    target = tmp_path / "mine"
    words = ("--set", "class_names=[background, liver, tumour]", "--set", "modality=CT", "--weights", "untrained")
    assert monai_ssl("init", "semi_segmentation", target, *words).exit_code == 0
    for name in ("train", "evaluate", "inference", "suggest"):
        config = yaml.safe_load((target / "configs" / f"{name}.yaml").read_text())
        assert (config["class_names"], config["modality"]) == (["background", "liver", "tumour"], "CT"), name
    metadata = json.loads((target / "configs" / "metadata.json").read_text())
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"]["2"] == "tumour"
    weights = torch.load(target / "models" / "model.pt", weights_only=True)["model"]
    assert 3 in {len(value) for value in weights.values() if value.ndim == 1}, "as many outputs as classes"


def test_init_writes_a_first_model_or_nothing(tmp_path):
    target = tmp_path / "mine"
    result = monai_ssl("init", "semi_segmentation", target, "--weights", "untrained")
    assert (result.exit_code, result.stdout) == (0, f"Wrote {target}\n")
    assert (target / "models" / "model.pt").is_file()
    for words, reason in (
        (("--weights", tmp_path / "no.pt"), "no.pt: there are no weights here"),
        (("--weights", target / "configs" / "metadata.json"), "metadata.json: cannot be read as weights"),
        (("--weights", "untrained", "--from", tmp_path), "exclude each other"),
    ):
        result = monai_ssl("init", "focalmix_detection", tmp_path / "other", *words)
        assert result.exit_code == 1
        assert re.fullmatch(rf"Error: [^\n]*{reason}[^\n]*\n", result.stderr)
    result = monai_ssl("init", "focalmix_detection", tmp_path / "other", "--weights", target / "models" / "model.pt")
    assert result.exit_code == 1
    assert "model.pt: does not fit this network" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


@pytest.fixture
def stranger(tmp_path):
    folder = tmp_path / "stranger"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "train.yaml").write_text(
        "net: {_target_: monai.networks.nets.UNet}\nx: \"$__import__('os').system('touch victim \\e[2J')\"\n"
    )
    return folder


def test_inspect_names_what_is_marked_and_ends_with_one(stranger, tmp_path):
    result = monai_ssl("inspect", stranger, "--json", tmp_path / "found.json")
    assert result.exit_code == 1
    assert "1 marked in 1 files with 1 targets, 1 expressions, 0 imports." in result.stdout
    assert "uses __import__" in result.stdout
    assert "UNet" not in result.stdout
    assert "\x1b" not in result.stdout, "nothing of a stranger moves the cursor"
    assert json.loads((tmp_path / "found.json").read_text())["marked"] == 1
    assert "monai.networks.nets.UNet" in monai_ssl("inspect", stranger, "--all").stdout


def test_inspect_ends_with_zero_where_all_is_inside(stranger):
    (stranger / "configs" / "train.yaml").write_text("net: {_target_: monai.networks.nets.UNet}\n")
    result = monai_ssl("inspect", stranger)
    assert (result.exit_code, result.stdout) == (0, "0 marked in 1 files with 1 targets, 0 expressions, 0 imports.\n")


def test_inspect_of_no_folder_is_one_line(tmp_path):
    result = monai_ssl("inspect", tmp_path / "bundle.zip")
    assert result.exit_code == 1
    assert "is no folder. Give the folder of a bundle; unpack an archive first." in result.stderr
