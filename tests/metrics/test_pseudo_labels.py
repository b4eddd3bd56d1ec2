from __future__ import annotations

import itertools
import math

import pytest
import torch
from monai.data import MetaTensor
from monai.metrics.meandice import compute_dice
from monai.networks.utils import one_hot
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor

from monai_ssl.metrics.pseudo_labels import (
    agreement_counts,
    foreground_agreement,
    kept_label_counts,
    kept_share,
    precision_and_recall,
)


def case(batch: int = 2, classes: int = 3, size: tuple[int, ...] = (4, 3, 5)) -> tuple[Tensor, Tensor]:
    return torch.softmax(2 * torch.randn(batch, classes, *size), 1), torch.randint(classes, (batch, 1, *size))


def slow_counts(probabilities: Tensor, labels: Tensor, threshold: float) -> list[list[int]]:
    classes = probabilities.shape[1]
    table = [[0] * 4 for _ in range(classes)]
    rows = probabilities.movedim(1, -1).reshape(-1, classes).tolist()
    for row, label in zip(rows, labels.flatten().tolist(), strict=True):
        best = max(range(classes), key=lambda k: row[k])
        table[label][0] += 1
        table[best][1] += 1
        table[best][2] += row[best] > threshold
        table[best][3] += row[best] > threshold and best == label
    return table


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.8, 0.999])
@pytest.mark.parametrize(("classes", "size"), [(2, (4, 3, 5)), (4, (6, 5))])
def test_counts_by_loops(threshold: float, classes: int, size: tuple[int, ...]) -> None:
    probabilities, labels = case(2, classes, size)
    assert kept_label_counts(probabilities, labels, threshold).tolist() == slow_counts(probabilities, labels, threshold)


def test_with_all_voxels_kept_it_is_the_usual_precision_and_recall() -> None:
    probabilities, labels = case(3, 4)
    counts = kept_label_counts(probabilities, labels)
    expected = precision_recall_fscore_support(labels.flatten(), probabilities.argmax(1).flatten())[:2]
    for found, figures in zip(precision_and_recall(counts), expected, strict=True):
        assert found.tolist() == pytest.approx(list(figures))
    assert kept_share(counts) == 1.0


def test_a_dropped_voxel_is_missing_but_not_wrong() -> None:
    # foreground: sure and right, unsure and right, sure and wrong, never found
    foreground = torch.tensor([0.9, 0.6, 0.9, 0.1])
    probabilities = torch.stack([1 - foreground, foreground])[None, :, :, None]
    labels = torch.tensor([1, 1, 0, 1])[None, None, :, None]
    for threshold, precision, recall, share in ((0.0, 2 / 3, 2 / 3, 1.0), (0.8, 1 / 2, 1 / 3, 2 / 3)):
        counts = kept_label_counts(probabilities, labels, threshold)
        figures = [float(figure[1]) for figure in precision_and_recall(counts)]
        assert figures == pytest.approx([precision, recall])
        assert kept_share(counts[1:]) == pytest.approx(share)
        assert kept_share(counts) == pytest.approx(1.0 if threshold == 0 else 3 / 4)


def test_a_confidence_at_the_threshold_is_not_kept_as_in_training() -> None:
    foreground = torch.tensor([[0.95]])
    probabilities = torch.stack([1 - foreground, foreground], 1)[..., None]
    for threshold, kept in ((0.95, 0), (0.9499999, 1)):
        counts = kept_label_counts(probabilities, torch.ones(1, 1, 1, 1), threshold)
        assert counts[1].tolist() == [1, 1, kept, kept]


def test_a_higher_threshold_never_keeps_more() -> None:
    probabilities, labels = case()
    kept = [
        kept_label_counts(probabilities, labels, threshold)[:, 2:] for threshold in torch.linspace(0, 0.999, 9).tolist()
    ]
    assert all(bool((after <= before).all()) for before, after in itertools.pairwise(kept))
    assert bool((kept[-1] < kept[0]).any())


def test_cases_add_up_and_input_is_not_changed() -> None:
    probabilities, labels = (MetaTensor(part) for part in case(4))
    before = probabilities.clone(), labels.clone()
    parts = [kept_label_counts(p[None], y[None], 0.7) for p, y in zip(probabilities, labels, strict=True)]
    whole = kept_label_counts(probabilities, labels, 0.7)
    assert type(whole) is Tensor
    assert torch.equal(torch.stack(parts).sum(0), whole)
    assert torch.equal(probabilities, before[0])
    assert torch.equal(labels, before[1])


def test_nothing_to_divide_by() -> None:
    counts = torch.tensor([[10, 12, 12, 10], [2, 0, 0, 0], [0, 3, 0, 0]])
    precision, recall = precision_and_recall(counts)
    assert precision.isnan().tolist() == [False, True, True]
    assert recall.isnan().tolist() == [False, False, True]
    assert recall[1] == 0.0
    assert math.isnan(kept_share(counts[1:2]))
    assert kept_share(counts[2:]) == 0.0


def test_agreement_is_monais_dice() -> None:
    first, second = (torch.randint(4, (3, 1, 6, 5, 4)) for _ in range(2))
    found = foreground_agreement(agreement_counts(first, second, 4))
    # over all cases: the cases as one long volume
    maps = [one_hot(torch.cat(list(part), 1)[None], 4) for part in (first, second)]
    assert found == pytest.approx(float(compute_dice(*maps, include_background=False).mean()))


def test_agreement_at_its_limits() -> None:
    empty, ball, other = torch.zeros(3, 1, 8, 8, dtype=torch.int64).unbind(0)
    ball[..., :2, :2], other[..., 4:, 4:] = 1, 1
    for first, second, expected in ((ball, ball, 1.0), (ball, other, 0.0), (ball, empty, 0.0)):
        assert foreground_agreement(agreement_counts(first, second, 3)) == expected
        assert foreground_agreement(agreement_counts(second, first, 3)) == expected
    assert math.isnan(foreground_agreement(agreement_counts(empty, empty, 3)))


def test_agreement_sees_what_the_share_of_equal_voxels_hides() -> None:
    first, second = torch.zeros(2, 1000, dtype=torch.int64)
    first[:15], second[15:30] = 1, 1
    assert (first == second).double().mean() == 0.97
    assert foreground_agreement(agreement_counts(first, second, 2)) == 0.0


@pytest.mark.parametrize("threshold", [-0.1, 1.0, math.nan])
def test_thresholds_out_of_range(threshold: float) -> None:
    with pytest.raises(ValueError, match=rf"`threshold` must be in \[0, 1\), got {threshold}"):
        kept_label_counts(*case(), threshold)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="`labels` must be whole numbers from 0 to 2, got 7"):
        kept_label_counts(case()[0], torch.full((2, 1, 4, 3, 5), 7))
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\) and \(3, 2\)"):
        agreement_counts(torch.zeros(2, 3), torch.zeros(3, 2), 2)
    with pytest.raises(ValueError, match="whole numbers from 0 to 1, got 0 to 2"):
        agreement_counts(torch.zeros(3), torch.tensor([0, 1, 2]), 2)
    with pytest.raises(ValueError, match=r"`counts` must be \(C, 4\), got \(2, 3\)"):
        precision_and_recall(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"`counts` must be \(C, 3\), got \(2, 4\)"):
        foreground_agreement(torch.zeros(2, 4))
