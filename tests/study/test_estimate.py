from __future__ import annotations

from pathlib import Path

import pytest

from monai_ssl.study.estimate import describe_estimate, read_times
from tests.study.helpers import open_study, write_figures, write_plan


def test_before_any_run_the_network_tells_the_disk_and_nothing_the_time(tmp_path: Path) -> None:
    channels = {"network_def#channels": [4, 8, 8, 8]}
    study, specs = open_study(write_plan(tmp_path, settings=channels), tmp_path / "out")
    runs, disk, time = describe_estimate(study, specs, 1)
    assert runs == "8 runs of 4 steps: 0 finished, 8 to do."
    assert disk.startswith("Disk: about 2 MB (by the largest network")  # 8 runs of 15 thousand values, 20 bytes each
    assert time == "Time: not known for supervised, mean_teacher until the first run of each is done."


def test_a_network_that_cannot_be_built_leaves_the_disk_open(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path, settings={"network_def#channels": "four"}), tmp_path / "out")
    assert describe_estimate(study, specs, 1)[1] == "Disk: not known until the first run is done."


def test_finished_runs_tell_disk_and_time(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path), tmp_path / "out")
    write_figures(study, specs[0], 0.5, seconds=60.0)
    (study.folder(specs[0]) / "model.pt").write_bytes(b"0" * 1_000_000)
    runs, disk, time = describe_estimate(study, specs, 2)
    assert runs == "8 runs of 4 steps: 1 finished, 7 to do."
    assert disk == "Disk: about 7 MB (by the finished runs)."
    assert time.startswith("Time: about 6.0 minutes of training, 2 at once")  # three more of four minutes
    assert "not known for mean_teacher until" in time
    write_figures(study, specs[1], 0.5, seconds=15.0)
    assert "about 7.5 minutes" in describe_estimate(study, specs, 2)[2]
    for spec in specs:
        write_figures(study, spec, 0.5)
    assert describe_estimate(study, specs, 1) == ["8 runs of 4 steps: 8 finished, 0 to do."]


@pytest.mark.parametrize(
    ("text", "expected"), [("step,seconds\n", (0, 0.0)), ("step,seconds\n1,2.0\n2,1.5\n", (2, 3.5))]
)
def test_steps_and_their_time(text: str, expected: tuple[int, float], tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text(text)
    assert read_times(tmp_path / "steps.csv") == expected
