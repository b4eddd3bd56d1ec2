from __future__ import annotations

from pathlib import Path

import pytest

from monai_ssl.study.execute import bundle_command, run_bundle
from monai_ssl.utils.errors import UserError


def test_the_command_merges_the_files_in_their_order(tmp_path: Path) -> None:
    command = bundle_command(tmp_path, ["train.yaml", "methods/supervised.yaml"], {"seed": 3, "max_steps": 10})
    files = str([str(tmp_path / "configs/train.yaml"), str(tmp_path / "configs/methods/supervised.yaml")])
    assert command[1:] == [
        *("-m", "monai.bundle", "run", "--config_file", files, "--bundle_root", str(tmp_path)),
        *("--seed", "3", "--max_steps", "10"),
    ]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/metadata.json").write_text("{}")
    (tmp_path / "configs/train.yaml").write_text(
        "bundle_root: .\nimports: ['$import sys']\nstatus: 0\nrun: [\"$print('ran'), sys.exit(@status)\"]\n"
    )
    return tmp_path


def test_what_a_run_prints_goes_to_the_console_file(bundle: Path) -> None:
    run_bundle(bundle, ["train.yaml"], {}, console=bundle / "console.txt")
    assert "ran" in (bundle / "console.txt").read_text().splitlines()


def test_a_failed_run_is_told(bundle: Path) -> None:
    with pytest.raises(UserError, match=r"console.txt: the run ended with status 3"):
        run_bundle(bundle, ["train.yaml"], {"status": 3}, console=bundle / "console.txt")
