from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image

from monai_ssl.handlers import progress_picture
from monai_ssl.handlers.progress_picture import ProgressPicture, draw_progress
from monai_ssl.handlers.step_log import StepLog
from monai_ssl.utils.errors import UserError

HEADER = "step,loss,supervised,consistency,weight_supervised,weight_consistency,lr,seconds,validation_dice\n"


def table(path: Path, steps: int, validated: bool = False) -> Path:
    rows = [
        f"{step},{2 / step},{1 / step},{1 / step if step > 3 else ''},1.0,0.1,0.001,0.2,"
        f"{0.5 if validated and step % 5 == 0 else ''}\n"
        for step in range(1, steps + 1)
    ]
    path.write_text(HEADER + "".join(rows))
    return path


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        return picture.size


@pytest.mark.parametrize("steps", [0, 1, 2, 200])
def test_one_panel_without_validation(steps: int, tmp_path: Path) -> None:
    draw_progress(table(tmp_path / "steps.csv", steps), tmp_path / "progress.png")
    assert size(tmp_path / "progress.png") == (1125, 630)
    assert plt.get_fignums() == []


def test_a_second_panel_with_validation(tmp_path: Path) -> None:
    steps = table(tmp_path / "steps.csv", 20, validated=True)
    draw_progress(steps, tmp_path / "from_table.png")
    draw_progress(steps, tmp_path / "given.png", validation=[(20, 0.5), (5, 0.5), (10, 0.5), (15, 0.5)])
    draw_progress(steps, tmp_path / "none.png", validation=[])
    assert size(tmp_path / "from_table.png") == (1650, 630)
    assert (tmp_path / "from_table.png").read_bytes() == (tmp_path / "given.png").read_bytes()
    assert size(tmp_path / "none.png") == (1125, 630)


def test_only_losses_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(
        progress_picture.Axes, "legend", lambda self, **options: seen.extend(self.get_legend_handles_labels()[1])
    )
    draw_progress(table(tmp_path / "steps.csv", 20, validated=True), tmp_path / "progress.png")
    assert seen == ["Total loss", "supervised", "consistency"]


def test_accuracies_have_a_panel_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(
        progress_picture.Axes, "legend", lambda self, **options: seen.append(self.get_legend_handles_labels()[1])
    )
    path = tmp_path / "steps.csv"
    path.write_text(
        "step,loss,rotation,weight_rotation,rotation_accuracy,rotation_chance\n1,2,2,1,0.2,0.1\n2,1,1,1,0.5,0.1\n"
    )
    draw_progress(path, tmp_path / "progress.png")
    assert seen == [["Total loss", "rotation"], ["rotation"]]
    assert size(tmp_path / "progress.png") == (1650, 630)
    draw_progress(path, tmp_path / "three.png", validation=[(2, 0.5)])
    assert size(tmp_path / "three.png") == (2475, 630)


def test_shares_and_numbers_that_are_no_terms_have_panels_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told from terms by their missing weight; a term between 0 and 1 stays a loss, a figure above 1 is no share."""
    seen: list[list[str]] = []
    monkeypatch.setattr(
        progress_picture.Axes, "legend", lambda self, **options: seen.append(self.get_legend_handles_labels()[1])
    )
    path = tmp_path / "steps.csv"
    path.write_text(
        "step,loss,pseudo,weight_pseudo,kept,kept_foreground,entropy,later,confidence\n"
        "1,0.3,0.3,1.0,nan,0,0.2,nan,0.9\n2,0.1,0.1,1.0,0.8,1,1.2,nan,1.0000001\n"
    )
    draw_progress(path, tmp_path / "progress.png")
    assert seen == [["Total loss", "pseudo"], ["kept", "kept foreground", "confidence"], ["entropy"]]
    assert size(tmp_path / "progress.png") == (2475, 630)
    draw_progress(path, tmp_path / "four.png", validation=[(2, 0.5)])
    assert size(tmp_path / "four.png") == (3300, 630)


@pytest.mark.parametrize(("metric", "title"), [("dice", "Mean Dice on"), ("cpm", "CPM on")])
def test_the_score_of_the_validation_is_named(
    metric: str, title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(progress_picture, "_dress", lambda axes, text: titles.append(text))
    (tmp_path / "steps.csv").write_text(f"step,loss,validation_{metric}\n1,2,\n2,1,0.5\n")
    draw_progress(tmp_path / "steps.csv", tmp_path / "progress.png")
    assert titles == ["Training loss", f"{title} the validation cases"]


def test_the_step_log_writes_what_tells_terms_from_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(
        progress_picture.Axes, "legend", lambda self, **options: seen.append(self.get_legend_handles_labels()[1])
    )
    trainer: Any = Engine(lambda engine, batch: batch)
    trainer.objective = SimpleNamespace(weights={"supervised": 2.0})
    trainer.optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    StepLog(tmp_path / "steps.csv").attach(trainer)
    half = torch.tensor(0.5)
    terms, figures = {"supervised": half, "pseudo": half}, {"kept": half, "pseudo_foreground": half}
    trainer.run([{"loss": half, "terms": terms, "figures": figures}], max_epochs=2)
    draw_progress(tmp_path / "steps.csv", tmp_path / "progress.png")
    assert seen == [["Total loss", "supervised", "pseudo"], ["kept", "pseudo foreground"]]


def test_a_row_that_a_kill_cut_short_is_drawn_as_far_as_it_goes(tmp_path: Path) -> None:
    steps = table(tmp_path / "steps.csv", 5)
    steps.write_text(steps.read_text() + "6,0.3,1.2e-")
    columns = progress_picture._read_columns(steps)
    assert columns["loss"][-1] == 0.3
    assert np.isnan(columns["supervised"][-1])
    draw_progress(steps, tmp_path / "progress.png")


def test_smoothing_keeps_a_constant_and_matches_its_definition() -> None:
    assert progress_picture._smooth(np.full(500, 0.7)) == pytest.approx(0.7)
    values = np.random.default_rng(0).normal(size=300)
    keep = 1 - 50 / 300
    expected = [np.average(values[: n + 1], weights=keep ** np.arange(n, -1, -1)) for n in range(300)]
    assert progress_picture._smooth(values) == pytest.approx(np.array(expected))


def test_tables_that_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.csv: the table of steps cannot be read"):
        draw_progress(tmp_path / "gone.csv", tmp_path / "progress.png")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"other.csv: .* must have a column `step`, got \['a', 'b'\]"):
        draw_progress(tmp_path / "other.csv", tmp_path / "progress.png")


def test_an_interrupted_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, path = table(tmp_path / "steps.csv", 10), tmp_path / "progress.png"
    draw_progress(steps, path)
    before = path.read_bytes()

    def print_half(self: Any, stream: Any) -> None:
        stream.write(before[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", print_half)
    with pytest.raises(KeyboardInterrupt):
        draw_progress(steps, path)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["progress.png", "steps.csv"]


@pytest.mark.parametrize(("interval", "pictures"), [(0.0, 4), (1000.0, 2)])
def test_handler_draws_when_due_and_at_the_end(
    interval: float, pictures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(progress_picture, "draw_progress", lambda *paths: drawn.append(paths))
    steps = table(tmp_path / "steps.csv", 3)
    trainer = Engine(lambda engine, batch: None)
    ProgressPicture(steps, tmp_path / "progress.png", interval=interval).attach(trainer)
    trainer.run([0], max_epochs=3)
    assert drawn == [(steps, tmp_path / "progress.png")] * pictures


def test_handler_waits_for_the_table(tmp_path: Path) -> None:
    trainer = Engine(lambda engine, batch: None)
    ProgressPicture(tmp_path / "steps.csv", tmp_path / "progress.png").attach(trainer)
    trainer.run([0], max_epochs=1)
    assert not (tmp_path / "progress.png").exists()
