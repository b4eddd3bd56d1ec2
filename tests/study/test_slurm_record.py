from __future__ import annotations

from pathlib import Path

from monai_ssl.study.slurm_record import (
    open_tasks,
    read_failures,
    read_tasks,
    study_folder,
    submission_folder,
    write_failures,
    write_submission,
)

TASKS = [["runs/2/a/seed0", "runs/2/b/seed0"], ["runs/4/a/seed0"]]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    folder = submission_folder(tmp_path, "name")
    write_submission(folder, "12", TASKS)
    assert study_folder(folder) == tmp_path
    assert read_tasks(folder) == TASKS
    assert [(task.folder, task.index, task.job, list(task.runs)) for task in open_tasks(tmp_path)] == [
        (folder, 0, "12", TASKS[0]),
        (folder, 1, "12", TASKS[1]),
    ]


def test_a_task_with_a_record_is_over(tmp_path: Path) -> None:
    folder = submission_folder(tmp_path, "name")
    write_submission(folder, "12", TASKS)
    assert read_failures(folder, 0) is None
    write_failures(folder, 0, {"runs/2/a/seed0": "a reason"})
    assert read_failures(folder, 0) == {"runs/2/a/seed0": "a reason"}
    assert [task.index for task in open_tasks(tmp_path)] == [1]


def test_an_array_whose_number_is_not_known_goes_by_its_name(tmp_path: Path) -> None:
    write_submission(submission_folder(tmp_path, "name"), "", TASKS)
    assert [task.array for task in open_tasks(tmp_path)] == ["name", "name"]
    write_submission(submission_folder(tmp_path, "name"), "12", TASKS)
    assert [task.array for task in open_tasks(tmp_path)] == ["12", "12"]


def test_a_study_without_submissions_has_no_task(tmp_path: Path) -> None:
    assert list(open_tasks(tmp_path)) == []
