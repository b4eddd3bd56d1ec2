from __future__ import annotations

import pytest

from monai_ssl.study.progress import StudyProgress, count_steps


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
