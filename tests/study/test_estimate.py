from __future__ import annotations

from pathlib import Path

import pytest

from monai_ssl.study.estimate import describe_estimate, read_times
from monai_ssl.study.plan import RunSpec
from monai_ssl.study.pretraining import PretrainSpec
from monai_ssl.study.state import Study
from monai_ssl.utils.errors import UserError
from tests.study.helpers import open_study, write_figures, write_plan, write_pretraining_plan, write_rounds_plan


def test_before_any_run_the_network_tells_the_disk_and_nothing_the_time(tmp_path: Path) -> None:
    channels = {"network_def#channels": [4, 8, 8, 8]}
    study, specs = open_study(write_plan(tmp_path, settings=channels), tmp_path / "out")
    runs, disk, time = describe_estimate(study, specs, 1)
    assert runs == "8 runs of 4 steps: 0 finished, 8 to do."
    assert disk.startswith("Disk: about 3 MB (by the networks' sizes")  # 8 runs of 15 thousand values, 24 bytes each
    hint = "before its first run is done"
    assert time == f"Time: not known for mean_teacher {hint}, supervised {hint}."


def test_a_network_that_cannot_be_built_leaves_the_disk_open(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path, settings={"network_def#channels": "four"}), tmp_path / "out")
    assert describe_estimate(study, specs, 1)[1] == "Disk: not known until the first run is done."


def finish(study: Study, spec: RunSpec, train: float, test: float) -> None:
    write_figures(study, spec, 0.5)
    study.record(study.training(spec)).end("train", train)
    study.record(spec).end("test", test)


def test_finished_runs_tell_disk_and_time(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path), tmp_path / "out")
    finish(study, specs[0], train=240.0, test=60.0)
    (study.folder(specs[0]) / "model.pt").write_bytes(b"0" * 1_000_000)
    runs, disk, time = describe_estimate(study, specs, 2)
    assert runs == "8 runs of 4 steps: 1 finished, 7 to do."
    assert disk == "Disk: about 7 MB (by the finished runs)."
    # three more trainings of four minutes and seven tests of one, two at once
    assert time == "Time: about 10 minutes, 2 at once; not known for mean_teacher before its first run is done."
    finish(study, specs[1], train=600.0, test=60.0)
    assert describe_estimate(study, specs, 2)[2] == "Time: about 24 minutes, 2 at once."
    for spec in specs:
        finish(study, spec, 1.0, 1.0)
    assert describe_estimate(study, specs, 1) == ["8 runs of 4 steps: 8 finished, 0 to do."]


def test_a_method_that_did_not_run_yet_is_probed_once(tmp_path: Path) -> None:
    flips = {"label": "flips", "method": "supervised", "evaluation": {"flip_axes": [0]}}
    study, specs = open_study(write_plan(tmp_path, methods=["supervised", "mean_teacher", flips]), tmp_path / "out")
    probed: list[str] = []

    def probe(spec: RunSpec) -> float:
        probed.append(spec.method.label)
        if spec.method.label == "mean_teacher":
            raise UserError("mean_teacher: Error: no such thing")
        return 3600.0

    time = describe_estimate(study, specs, 1, probe)[2]
    assert sorted(probed) == ["mean_teacher", "supervised"]  # that of the flips is shared
    assert time == (
        "Time: about 4.0 hours besides the evaluations, 1 at once; not known for mean_teacher: Error: no such thing."
    )


@pytest.mark.parametrize(
    ("text", "expected"), [("step,seconds\n", (0, 0.0)), ("step,seconds\n1,2.0\n2,1.5\n", (2, 3.5))]
)
def test_steps_and_their_time(text: str, expected: tuple[int, float], tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text(text)
    assert read_times(tmp_path / "steps.csv") == expected


def test_a_pretraining_counts_once_however_many_runs_share_it(tmp_path: Path) -> None:
    study, specs = open_study(write_pretraining_plan(tmp_path, pretraining={"steps": 7}), tmp_path / "out")
    probed: list[str] = []

    def probe(pretraining: PretrainSpec) -> float:
        probed.append(pretraining.label)
        return 3600.0

    lines = describe_estimate(study, specs, 1, lambda spec: 600.0, probe)
    assert lines[:2] == [
        "8 runs of 4 steps: 0 finished, 8 to do.",
        "2 pretrainings of 14 steps in all: 0 finished, 2 to do.",
    ]
    # two hours of pretraining and eight trainings of ten minutes
    assert lines[3] == "Time: about 3.3 hours besides the evaluations, 1 at once."
    assert len(probed) == 1
    assert describe_estimate(study, specs, 1, lambda spec: 600.0)[3].endswith(
        f"not known for {probed[0]} before the first is done."
    )
    spec = specs[1]
    study.begin(spec)
    step = study.next_step(spec)
    assert step is not None
    (step.folder / "model.pt").touch()
    study.end(spec, step, 1800.0)
    lines = describe_estimate(study, specs, 1, lambda spec: 600.0)
    assert lines[1] == "2 pretrainings of 14 steps in all: 1 finished, 1 to do."
    assert lines[3] == "Time: about 110 minutes besides the evaluations, 1 at once."


def test_methods_that_choose_their_cases_take_as_long_as_the_same_without_and_their_choices(tmp_path: Path) -> None:
    far = {"label": "far", "method": "mean_teacher", "acquisition": "coverage"}
    study, specs = open_study(write_rounds_plan(tmp_path, far), tmp_path / "out")
    probed: list[str] = []

    def probe(spec: RunSpec) -> float:
        probed.append(spec.method.label)
        return 600.0

    # three trainings of supervised, three of random, and two each of what begins as random does
    lines = describe_estimate(study, specs, 1, probe)
    assert sorted(probed) == ["random", "supervised"]
    assert lines[2] == "Time: about 100 minutes besides the evaluations and suggestions, 1 at once."
    two, four = (spec for spec in specs if spec.method.label == "unsure" and spec.budget != "6")
    finish(study, two, train=60.0, test=60.0)
    study.begin(four)
    (study.training_folder(four) / "cases.json").touch()
    study.record(four).end("suggest", 120.0)
    # nine trainings of one minute, or of ten for supervised; eleven tests of one; three choices of two
    lines = describe_estimate(study, specs, 1, probe)
    assert lines[2] == f"Time: about {6 + 3 * 10 + 11 + 3 * 2} minutes, 1 at once."
