from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image
from torch import Tensor

from monai_ssl.handlers import reliability_picture
from monai_ssl.handlers.reliability_picture import ReliabilityPicture, draw_reliability
from monai_ssl.metrics.calibration import reliability_counts


def counts() -> Tensor:
    return reliability_counts(torch.softmax(3 * torch.randn(1, 3, 8, 8, 8), 1), torch.randint(3, (1, 1, 8, 8, 8)))


@pytest.mark.parametrize("given", ["some", "one voxel", "no foreground", "nothing"])
def test_any_counts_give_a_picture(given: str, tmp_path: Path) -> None:
    table = counts()
    if given == "one voxel":
        table = torch.zeros_like(table)
        table[1, 14] = 1.0
    elif given != "some":
        table[given == "no foreground" :] = 0.0
    draw_reliability(table, tmp_path / "reliability.png", "Step 3")
    with Image.open(tmp_path / "reliability.png") as picture:
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (1350, 780))
    assert plt.get_fignums() == []
    assert [path.name for path in tmp_path.iterdir()] == ["reliability.png"]


def test_bars_are_accuracies_and_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[list[float], list[float]]] = []
    bar = reliability_picture.Axes.bar

    def remember(self: object, left: list[float], height: list[float], *arguments: object, **options: object) -> object:
        drawn.append(([float(x) for x in left], [float(y) for y in height]))
        return bar(self, left, height, *arguments, **options)

    monkeypatch.setattr(reliability_picture.Axes, "bar", remember)
    table = torch.zeros(2, 4, 3, dtype=torch.float64)
    table[0, 3] = torch.tensor([10.0, 8.5, 9.0], dtype=torch.float64)  # by 0.05 not sure enough
    table[1, 2] = torch.tensor([4.0, 2.8, 1.0], dtype=torch.float64)
    draw_reliability(table, tmp_path / "reliability.png")
    heights = [[0.25, 0.85], [0.45, 0.0], [0.0, 0.05], [3.5, 9.5], [0.25], [0.45], [0.0], [3.5]]
    assert [height for _, height in drawn] == [pytest.approx(height, abs=1e-12) for height in heights]
    assert [left for left, _ in drawn] == [[0.5, 0.75]] * 4 + [[0.5]] * 4


def test_titles_tell_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr(reliability_picture.Axes, "set_title", lambda self, title, **options: titles.append(title))
    table = torch.zeros(2, 4, 3, dtype=torch.float64)
    table[0, 3] = torch.tensor([10.0, 9.5, 9.0])
    ReliabilityPicture(tmp_path / "reliability.png").draw(table, "Step 3")
    assert titles == ["All voxels: ECE 0.050", "Predicted as foreground: no voxel"]


def test_no_counts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`counts` must be \(C, bins, 3\) of two classes at least, got \(15, 3\)"):
        draw_reliability(torch.zeros(15, 3), tmp_path / "reliability.png")
