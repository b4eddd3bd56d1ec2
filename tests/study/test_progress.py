from __future__ import annotations

from pathlib import Path

import pytest

from monai_ssl.study.progress import StudyProgress, count_steps, steps_in


@pytest.mark.parametrize(
    ("table", "steps"), [(b"", 0), (b"step,loss", 0), (b"step,loss\n", 0), (b"step,loss\n1,2\n2,", 1)]
)
def test_whole_lines_count(table: bytes, steps: int) -> None:
    assert count_steps(table) == steps


def test_finished_runs_and_steps_of_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    with StudyProgress(4, 10, 1) as progress:
        task = progress._progress.tasks[0]
        assert (task.total, task.completed, task.description) == (40, 10, "1/4 runs")
        progress.update(["a", "b"], 7)
        assert (task.completed, task.fields["now"]) == (17, "a; b")
        progress.end_run()
        progress.update([], 99)
        assert (task.completed, task.description) == (40, "2/4 runs")
    assert capsys.readouterr() == ("", "")  # there is no terminal


def test_steps_of_pretrainings_are_beside_those_of_the_runs(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/steps.csv").write_text("step,seconds\n1,2\n2,2\n")
    assert steps_in([tmp_path / "a", tmp_path / "none", tmp_path / "a"]) == 4
    with StudyProgress(2, 10, 0, 6) as progress:
        task = progress._progress.tasks[0]
        progress.update([], 3, 4)
        assert (task.total, task.completed) == (26, 7)
        progress.update([], 99, 99)
        assert task.completed == 26
