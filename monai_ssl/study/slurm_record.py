"""What of a study was submitted to Slurm, and which of it is over: files that the study and its tasks both read.

``<study>/slurm/<job name>/submission.json`` holds the array's number and the runs of each of its tasks;
``task<i>.json`` beside it says that a task is over. Whoever wrote that, the task at its end or a study that found the
task gone, the task never starts again. Nothing in these files names the study's folder, so that it may be moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_ssl.utils.files import write_json

__all__ = [
    "OpenTask",
    "open_tasks",
    "read_failures",
    "read_tasks",
    "study_folder",
    "submission_folder",
    "write_failures",
    "write_submission",
]

_SUBMISSION = "submission.json"


@dataclass(frozen=True)
class OpenTask:
    """A task that is not over.

    Attributes:
        folder: the submission's, named as the job.
        index: the task's place in the array.
        job: number of the array; empty where the study died before it knew.
        runs: folders of its runs below the study's, in their order.
    """

    folder: Path
    index: int
    job: str
    runs: tuple[str, ...]

    @property
    def array(self) -> str:
        """What a person calls its array: the number, or else the name, which ``scancel --name`` takes."""
        return self.job or self.folder.name


def submission_folder(output: Path, name: str) -> Path:
    """Where a submission lies, by the study's folder and the name of the job."""
    return output / "slurm" / name


def study_folder(folder: Path) -> Path:
    """The study's folder, by a submission's."""
    return folder.parents[1]


def write_submission(folder: Path, job: str, tasks: Sequence[Sequence[str]]) -> None:
    """Note what is submitted.

    Args:
        folder: the submission's; it is made.
        job: see :class:`OpenTask`.
        tasks: folders of the runs of each task.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _SUBMISSION, {"job": job, "tasks": tasks})


def read_tasks(folder: Path) -> list[list[str]]:
    """Return the folders of the runs of each task of a submission."""
    return list(_read(folder / _SUBMISSION)["tasks"])


def write_failures(folder: Path, index: int, failures: Mapping[str, str]) -> None:
    """Note that a task is over.

    Args:
        folder: see :class:`OpenTask`.
        index: see :class:`OpenTask`.
        failures: reasons, by the folders of the runs that failed.
    """
    write_json(_end(folder, index), {"failures": failures})


def read_failures(folder: Path, index: int) -> dict[str, str] | None:
    """Return what :func:`write_failures` noted; ``None`` where a task is not over."""
    path = _end(folder, index)
    return dict(_read(path)["failures"]) if path.exists() else None


def open_tasks(output: Path) -> Iterator[OpenTask]:
    """Yield the tasks of a study's submissions that are not over, as far as the disk tells.

    Args:
        output: the study's folder.
    """
    for path in sorted(submission_folder(output, "").glob(f"*/{_SUBMISSION}")):
        content = _read(path)
        for index, names in enumerate(content["tasks"]):
            if not _end(path.parent, index).exists():
                yield OpenTask(path.parent, index, content["job"], tuple(names))


def _end(folder: Path, index: int) -> Path:
    return folder / f"task{index}.json"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
