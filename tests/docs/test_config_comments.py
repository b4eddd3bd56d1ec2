from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUNDLES = sorted(path.parent for path in ROOT.glob("bundles/*/configs"))
sys.path.append(str(ROOT / "docs" / "_ext"))

from config_comments import STEPS, Setting, read_settings  # noqa: E402

TEXT = """imports: ["$import torch"]
# --- the run ---------
plain: 3                 # how many
quoted: "a # b"          # not the first sign
bare: "$@plain + 1"
# --- the method ------
rates: [1.0,
  2.0]
block:                   # what it is
  _target_: package.Class
  inner: 0.1             # of the inside
  silent: 2
"""


def test_defaults_comments_and_headings(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(TEXT)
    settings = read_settings(path)
    assert settings == [
        Setting("plain", "3", "how many", "the run"),
        Setting("quoted", '"a # b"', "not the first sign", "the run"),
        Setting("bare", '"$@plain + 1"', "", "the run"),
        Setting("rates", "[1.0, 2.0]", "", "the method"),
        Setting("block", "{_target_: package.Class, ..}", "what it is", "the method"),
        Setting("block#inner", "0.1", "of the inside", "the method"),
    ]
    assert [setting.name for setting in settings if setting.is_wiring] == ["bare"]


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_every_setting_of_a_bundle_is_on_its_page(bundle: Path) -> None:
    page = (ROOT / "docs" / "bundles" / f"{bundle.name}.md").read_text()
    for path in bundle.glob("configs/*.yaml"):
        assert f"{{bundle-settings}} {bundle.name} {path.name}\n" in page, path.name
        settings = read_settings(path)
        wanted = [name for name in yaml.safe_load(path.read_text()) if name not in STEPS]
        assert [setting.name for setting in settings if setting.name in wanted] == wanted
    trained = {setting.name: setting for setting in read_settings(bundle / "configs" / "train.yaml")}
    assert trained["seed"].default == "0"
    assert trained["max_steps"].comment == "optimiser steps; a multiple of epoch_length"
    assert trained["max_steps"].section == "the run"
    assert not trained["output_dir"].is_wiring
    assert trained["fingerprint"].is_wiring
