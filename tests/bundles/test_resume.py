"""A run that was killed again and again ends with the numbers of one that was not, bit for bit."""

from __future__ import annotations

import json
import random
import shutil
import time

import pytest

from monai_ssl.utils.errors import find_user_error
from tests.bundles.helpers import FAST, load, numbers, processes, train, train_quietly
from tests.helpers import same

STEPS = 12
# the choice of a checkpoint must survive as well
LONG = {**FAST, "max_steps": STEPS, "epoch_length": 3, "save_interval": 1, "val_interval": 5, "checkpoint": "chosen"}


@pytest.fixture(scope="module")
def uninterrupted(mri, tmp_path_factory):
    """Folder of the run that nobody killed, and how long it took."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    start = time.monotonic()
    train("mean_teacher", dataset_dir=str(mri), output_dir=str(folder), **LONG)
    return folder, time.monotonic() - start


def start(folder, **settings):
    """A training process; it resumes where there is a checkpoint, and starts over where there is not yet one."""
    switch = "resume" if (folder / "resume.pt").exists() else "overwrite"
    settings = {**LONG, "output_dir": str(folder), switch: "true", **settings}
    process = processes().Process(target=train_quietly, args=(("mean_teacher",), settings))
    process.start()
    return process


def kill_after(process, folder, seconds):
    """Kill so many seconds after the run has started to write its log."""
    log, size = folder / "log.txt", 0 if not (folder / "log.txt").exists() else (folder / "log.txt").stat().st_size
    while process.is_alive() and not (log.exists() and log.stat().st_size > size):
        time.sleep(0.01)
    process.join(seconds)
    process.kill()
    process.join()


def kill_inside_a_save(process, folder):
    """Kill while the temporary file of the second write from now is there."""
    temporary, there, count = folder / f".resume.pt.{process.pid}.tmp", False, 0
    while process.is_alive() and count < 2:
        there, was = temporary.exists(), there
        count += there and not was
    process.kill()
    process.join()


def check_kills(kills, mri, folder, expected, seconds):
    """Kill at random moments and inside saves, with other workers and another cache each time; then compare."""
    moments = random.Random(folder.name)
    reached = []
    for index, kind in enumerate(kills):
        process = start(folder, dataset_dir=str(mri), num_workers=2 * (index % 2), cache_rate=float(index // 2 % 2))
        if kind == "save":
            kill_inside_a_save(process, folder)
        else:
            kill_after(process, folder, moments.uniform(0.0, 0.6) * seconds)
        if (folder / "resume.pt").exists():
            reached.append(load(folder / "resume.pt")["iteration"])
        assert sorted(reached) == reached
    final = start(folder, dataset_dir=str(mri))
    final.join()
    assert final.exitcode == 0
    assert numbers(folder) == numbers(expected)
    assert same(load(folder / "model.pt"), load(expected / "model.pt"))
    assert same(load(folder / "resume.pt"), load(expected / "resume.pt"))
    assert same(load(folder / "best.pt"), load(expected / "best.pt"))
    figures = [json.loads((run / "validation_metrics.json").read_text()) for run in (folder, expected)]
    assert figures[0] == figures[1]
    return reached


def test_three_kills_leave_no_trace(mri, tmp_path, uninterrupted):
    reached = check_kills(("save", "moment", "save"), mri, tmp_path, *uninterrupted)
    assert 0 < reached[0] < STEPS


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_kills_leave_no_trace(mri, tmp_path, uninterrupted):
    """Fifty during training and fifty inside a save: ten runs of ten kills, since a run ends some time."""
    for run in range(10):
        check_kills(("save", "moment") * 5, mri, tmp_path / str(run), *uninterrupted)


def test_a_finished_run_resumed_is_left_as_it_is(mri, tmp_path, uninterrupted):
    run = shutil.copytree(uninterrupted[0], tmp_path / "run")
    train("mean_teacher", dataset_dir=str(mri), output_dir=str(run), resume="true", **LONG)
    assert numbers(run) == numbers(uninterrupted[0])
    for name in ("model.pt", "resume.pt"):
        assert same(load(run / name), load(uninterrupted[0] / name))


@pytest.mark.parametrize(
    ("methods", "settings", "difference"),
    [
        (["mean_teacher"], {"seed": 1}, "seed was 0, is now 1"),
        (["mean_teacher"], {"val_interval": 4}, "chosen every was 5, is now 4"),
        (["mean_teacher"], {"max_steps": 15}, "max_steps was 12, is now 15"),
        (["mean_teacher"], {"warmup_steps": 7}, "warmup_steps was 50, is now 7"),
        (["mean_teacher"], {"network_def#channels": [4, 12]}, "network_def::channels was [4, 8], is now [4, 12]"),
        (["mean_teacher"], {"objective#decay": 0.9}, "objective::decay was 0.99, is now 0.9"),
        (["supervised"], {}, "unlabeled_batch_size was 2, is now 0"),
    ],
    ids=["seed", "interval", "steps", "schedule", "network", "objective", "method"],
)
def test_other_settings_are_refused_by_name(methods, settings, difference, mri, uninterrupted):
    run = uninterrupted[0]
    before = {name: (run / name).read_bytes() for name in ("model.pt", "resume.pt", "steps.csv", "run_manifest.json")}
    with pytest.raises(RuntimeError) as error:
        train(*methods, **{"dataset_dir": str(mri), "output_dir": str(run), "resume": "true", **LONG, **settings})
    message = str(find_user_error(error.value))
    assert f"belongs to other settings: {difference}" in message or f"; {difference}" in message
    assert {name: (run / name).read_bytes() for name in before} == before


def test_another_list_is_refused_and_a_moved_one_is_not(mri, tmp_path, uninterrupted):
    run = shutil.copytree(uninterrupted[0], tmp_path / "run")
    moved = shutil.copytree(mri, tmp_path / "moved")
    settings = {"dataset_dir": str(moved), "output_dir": str(run), "resume": "true", **LONG}
    train("mean_teacher", **settings)
    content = json.loads((moved / "dataset.json").read_text())
    content["unlabeled"].pop()
    (moved / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(RuntimeError) as error:
        train("mean_teacher", **settings)
    assert "unlabelled cases was 3 (" in str(find_user_error(error.value))
