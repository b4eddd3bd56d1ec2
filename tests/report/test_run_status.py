from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from monai_ssl.report.run_status import is_busy, is_pretraining, is_run, run_status

HOLD = "import sys, time; from monai_ssl.utils.files import FolderLock; lock = FolderLock(sys.argv[1]); print(1, flush=True); time.sleep(600)"  # noqa: E501


def test_what_is_no_run_is_none(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    (tmp_path / "steps.csv").touch()
    assert is_run(tmp_path)
    assert not is_pretraining(tmp_path)
    (tmp_path / "seen_scans.json").touch()
    assert is_pretraining(tmp_path)


def test_a_run_in_progress_is_told_from_one_that_stopped(tmp_path: Path) -> None:
    (tmp_path / "run_manifest.json").touch()
    manifest = {"fingerprint": {"max_steps": "50"}}
    assert not is_busy(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            assert is_busy(tmp_path)
            assert run_status(tmp_path, manifest).startswith("In progress: a process still trains here.")
        finally:
            process.kill()
    assert not is_busy(tmp_path)
    assert run_status(tmp_path, manifest).endswith("--resume true goes on.")
    (tmp_path / "model.pt").touch()
    assert run_status(tmp_path, manifest) == ""
    assert run_status(tmp_path / "none", {}) == ""
