from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from monai_ssl.engines.suggestion import BoxUncertainty, ScanUncertainty, write_suggestions
from monai_ssl.metrics.acquisition import box_uncertainty, scan_uncertainty
from monai_ssl.utils.errors import UserError

CASES = ["a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz"]
VALUES = [0.1, 0.9, 0.8, 0.4]  # of the scans, which are constant


class Scans:
    """A loader that counts what it reads."""

    def __init__(self, values: list[float]) -> None:
        self.values = values
        self.read = 0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for value in self.values:
            self.read += 1
            yield {"image": torch.full((1, 1, 4, 4, 4), value)}


def value(image: Tensor) -> Tensor:
    return image.mean().view(1, 1)


def suggest(path: Path, strategy: str, count: int = 2, labeled: Any = None, **given: Any) -> dict[str, Any]:
    given = {"cases": CASES, "unlabeled": Scans(VALUES), **given}
    return write_suggestions(
        path / "suggestions.json", strategy, count, labeled=labeled, uncertainty=value, embedding=value, **given
    )


def test_each_strategy_reads_what_it_needs_once(tmp_path: Path) -> None:
    for strategy, reads, known in (("first", 0, 0), ("random", 0, 0), ("uncertainty", 4, 0), ("coverage", 4, 1)):
        unlabeled, labeled = Scans(VALUES), Scans([0.0])
        suggest(tmp_path, strategy, unlabeled=unlabeled, labeled=labeled, overwrite=True)
        assert (unlabeled.read, labeled.read) == (reads, known), strategy


def test_what_is_written(tmp_path: Path) -> None:
    content = suggest(tmp_path, "uncertainty_coverage", labeled=Scans([1.0]), seed=3)
    assert json.loads((tmp_path / "suggestions.json").read_text()) == content
    assert content["suggested"] == ["a.nii.gz", "d.nii.gz"]
    assert (content["strategy"], content["seed"]) == ("uncertainty_coverage", 3)
    assert [scan["case"] for scan in content["scans"]] == CASES
    assert [scan["uncertainty"] for scan in content["scans"]] == pytest.approx(VALUES)
    assert [scan["distance"] for scan in content["scans"]] == pytest.approx([0.9, 0.1, 0.2, 0.6])
    alone = suggest(tmp_path, "uncertainty", overwrite=True)
    assert alone["suggested"] == ["b.nii.gz", "c.nii.gz"]
    assert set(alone["scans"][0]) == {"case", "uncertainty"}
    assert (
        suggest(tmp_path, "coverage", 9, overwrite=True)["suggested"][0] == "d.nii.gz"
    )  # nothing labelled: the middle


class SomeBroken(Dataset[dict[str, Tensor]]):
    """Of the scans, those named cannot be read."""

    def __init__(self, broken: set[int]) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return len(VALUES)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        if row in self.broken:
            raise UserError(f"{CASES[row]}: cannot be read.")
        return {"image": torch.full((1, 4, 4, 4), VALUES[row])}


@pytest.mark.parametrize("broken", [{0}, {1}, {3}, {0, 1, 2}])
def test_scans_that_cannot_be_read_are_named_and_the_others_suggested(
    tmp_path: Path, broken: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    labeled = DataLoader(SomeBroken({0}), batch_size=1)
    content = suggest(tmp_path, "uncertainty_coverage", 4, labeled, unlabeled=DataLoader(SomeBroken(broken)))
    left = [case for row, case in enumerate(CASES) if row not in broken]
    assert content["unreadable"] == [case for row, case in enumerate(CASES) if row in broken]
    assert sorted(content["suggested"]) == left
    numbers = {scan["case"]: scan["uncertainty"] for scan in content["scans"]}
    assert numbers == pytest.approx({case: VALUES[CASES.index(case)] for case in left})
    assert all(f"{CASES[row]}: cannot be read. It is passed over." in caplog.text for row in broken)


def test_none_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of 4 scans can be used\. The last: d\.nii\.gz: cannot be read"):
        suggest(tmp_path, "coverage", unlabeled=DataLoader(SomeBroken({0, 1, 2, 3})))
    assert not (tmp_path / "suggestions.json").exists()


def test_what_does_not_fit_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    before = suggest(tmp_path, "first")
    with pytest.raises(UserError, match=r"suggestions\.json: is there already\. Give --overwrite true"):
        suggest(tmp_path, "random")
    with pytest.raises(UserError, match="no unlabelled scan to suggest: the list's part `unlabeled` is empty"):
        suggest(tmp_path, "first", cases=[], unlabeled=Scans([]), overwrite=True)
    with pytest.raises(UserError, match="strategy must be one of"):
        suggest(tmp_path, "worst", overwrite=True)
    with pytest.raises(UserError, match="scan 1 are not finite"):
        suggest(tmp_path, "uncertainty", unlabeled=Scans([float("nan")] * 4), overwrite=True)
    with pytest.raises(UserError, match="count must be 1 scan or more, got 0"):
        suggest(tmp_path, "first", count=0, overwrite=True)
    assert json.loads((tmp_path / "suggestions.json").read_text()) == before


def test_boxes_that_count_are_some() -> None:
    with pytest.raises(UserError, match="boxes must be 1 or more, got 0"):
        BoxUncertainty([], count=0)


def test_uncertainty_of_a_scan_goes_through_windows_in_evaluation_mode() -> None:
    network = nn.Sequential(nn.Conv3d(1, 3, 1), nn.Dropout(0.9)).train()
    unsure = ScanUncertainty(network, SlidingWindowInferer((4, 4, 4), overlap=0.5))
    image = torch.randn(1, 1, 7, 6, 5)
    expected = scan_uncertainty(torch.softmax(network[0](image), dim=1)[0])
    assert unsure(image).shape == (1, 1)
    assert unsure(image).item() == pytest.approx(expected, rel=1e-5)
    assert not unsure(image).requires_grad


class Found:
    """A detector that finds boxes of given scores, and remembers how it was called."""

    pred_score_key = "label_scores"

    def __init__(self, *scores: float) -> None:
        self.scores = scores
        self.network = nn.Dropout(0.5).train()
        self.inferer = SimpleNamespace(window=(8, 8, 8))
        self.windows: list[bool] = []

    def __call__(self, images: Tensor, use_inferer: bool) -> list[dict[str, Tensor]]:
        self.windows.append(use_inferer)
        return [{"label_scores": torch.tensor(self.scores)}]


def test_uncertainty_of_boxes_is_the_mean_over_detectors() -> None:
    teacher, student = Found(0.5, 0.1), Found()
    unsure = BoxUncertainty([teacher, student], count=2)  # type: ignore[list-item]
    number = unsure(torch.zeros(1, 1, 8, 8, 8))
    assert number.shape == (1, 1)
    assert number.item() == pytest.approx(box_uncertainty(torch.tensor([0.5, 0.1]), 2) / 2)
    unsure(torch.zeros(1, 1, 8, 9, 8))
    assert teacher.windows == [False, True], "larger scans go through windows"
    assert not teacher.network.training
