from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_ssl.metrics.calibration import expected_calibration_error, mean_confidence, reliability_counts, top_labels


def case(batch: int = 2, classes: int = 3, size: tuple[int, ...] = (4, 3, 5)) -> tuple[Tensor, Tensor]:
    logits = 2 * torch.randn(batch, classes, *size, dtype=torch.float64)
    return torch.softmax(logits, 1), torch.randint(classes, (batch, 1, *size))


def slow_counts(probabilities: Tensor, labels: Tensor, bins: int) -> list[list[list[float]]]:
    """Voxel by voxel, with the bin found by trying all of them."""
    classes = probabilities.shape[1]
    table = [[[0.0] * 3 for _ in range(bins)] for _ in range(classes)]
    rows = probabilities.movedim(1, -1).reshape(-1, classes).tolist()
    for row, label in zip(rows, labels.flatten().tolist(), strict=True):
        best = max(range(classes), key=lambda k: row[k])
        place = next(m for m in range(bins) if m / bins < row[best] <= (m + 1) / bins)
        table[best][place][0] += 1
        table[best][place][1] += row[best]
        table[best][place][2] += best == label
    return table


def slow_error(table: Any) -> float:
    bins = [[sum(row[m][j] for row in table) for j in range(3)] for m in range(len(table[0]))]
    total = sum(n for n, _, _ in bins)
    return sum(n / total * abs(right / n - confidence / n) for n, confidence, right in bins if n)


@pytest.mark.parametrize("bins", [1, 2, 7, 15])
@pytest.mark.parametrize(("classes", "size"), [(2, (4, 3, 5)), (4, (6, 5))])
def test_counts_and_error_by_loops(bins: int, classes: int, size: tuple[int, ...]) -> None:
    probabilities, labels = case(2, classes, size)
    counts, expected = reliability_counts(probabilities, labels, bins), slow_counts(probabilities, labels, bins)
    assert torch.allclose(counts, torch.tensor(expected, dtype=torch.float64))
    assert expected_calibration_error(counts) == pytest.approx(slow_error(expected))
    assert expected_calibration_error(counts[1:]) == pytest.approx(slow_error(expected[1:]))
    assert expected_calibration_error(counts[1]) == pytest.approx(slow_error(expected[1:2]))
    assert mean_confidence(counts) == pytest.approx(float(probabilities.amax(1).mean()))


def test_cases_add_up() -> None:
    probabilities, labels = case(5)
    parts = sum(reliability_counts(p[None], y[None]) for p, y in zip(probabilities, labels, strict=True))
    assert torch.allclose(torch.as_tensor(parts), reliability_counts(probabilities, labels))


def two_classes(confidence: float, right: int, wrong: int) -> tuple[Tensor, Tensor]:
    labels = torch.tensor([1] * right + [0] * wrong)[None, None, :, None]
    first = torch.full_like(labels, 1, dtype=torch.float64) * (1 - confidence)
    return torch.cat([first, 1 - first], 1), labels


def test_error_at_its_limits() -> None:
    for confidence, right, wrong, error in ((1.0, 8, 0, 0.0), (1.0, 0, 8, 1.0), (0.75, 6, 2, 0.0), (0.9, 6, 2, 0.15)):
        counts = reliability_counts(*two_classes(confidence, right, wrong))
        assert expected_calibration_error(counts) == pytest.approx(error)
        assert mean_confidence(counts) == pytest.approx(confidence)


def test_errors_of_two_bins_do_not_cancel_and_of_one_bin_do() -> None:
    sure, unsure = two_classes(0.95, 3, 1), two_classes(0.55, 3, 1)
    apart = reliability_counts(*sure, bins=10) + reliability_counts(*unsure, bins=10)
    together = reliability_counts(*sure, bins=1) + reliability_counts(*unsure, bins=1)
    assert expected_calibration_error(apart) == pytest.approx(0.2)
    assert expected_calibration_error(together) == pytest.approx(0.0, abs=1e-12)


def test_background_hides_the_foreground() -> None:
    probabilities = torch.tensor([[0.999, 0.001]] * 970 + [[0.01, 0.99]] * 30, dtype=torch.float64)
    labels = torch.tensor([0] * 970 + [0, 1] * 15)
    counts = reliability_counts(probabilities.T[None, :, :, None], labels[None, None, :, None])
    assert expected_calibration_error(counts) < 0.02
    assert expected_calibration_error(counts[1:]) == pytest.approx(0.49)


def test_a_bin_holds_its_upper_edge() -> None:
    for confidence, place in ((0.5, 4), (0.6, 5), (0.61, 6), (1.0, 9)):
        counts = reliability_counts(*two_classes(confidence, 1, 0), bins=10).sum(0)
        assert counts[:, 0].nonzero().flatten().tolist() == [place]


def test_a_calibrated_network_has_nearly_no_error() -> None:
    probabilities = case(1, 3, (40, 40, 40))[0]
    labels = torch.multinomial(probabilities[0].flatten(1).T, 1).reshape(1, 1, 40, 40, 40)
    assert expected_calibration_error(reliability_counts(probabilities, labels)) < 0.01
    sharper = probabilities.square() / probabilities.square().sum(1, keepdim=True)
    assert expected_calibration_error(reliability_counts(sharper, labels)) > 0.05


def test_masked_voxels_do_not_count() -> None:
    probabilities, labels = case(1)
    mask = torch.rand(labels.shape) < 0.4
    chosen = probabilities.movedim(1, -1)[mask[:, 0]].T[None, ..., None], labels[mask][None, None, :, None]
    assert torch.allclose(reliability_counts(probabilities, labels, mask=mask), reliability_counts(*chosen))
    empty = reliability_counts(probabilities, labels, mask=torch.zeros_like(labels))
    assert not empty.any()
    assert math.isnan(expected_calibration_error(empty))
    assert math.isnan(mean_confidence(empty))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_any_precision_metadata_and_never_changed(kind: torch.dtype) -> None:
    probabilities, labels = case()
    given = MetaTensor(probabilities.to(kind)), MetaTensor(labels.float())
    before = [part.clone() for part in given]
    counts = reliability_counts(*given)
    assert type(counts) is Tensor
    assert counts.dtype == torch.float64
    assert mean_confidence(counts) == pytest.approx(float(given[0].as_tensor().double().amax(1).mean()))
    assert all(torch.equal(part, old) for part, old in zip(given, before, strict=True))


def test_top_labels_are_in_the_order_of_the_voxels() -> None:
    probabilities, labels = case()
    confidence, predicted, truth = top_labels(probabilities, labels)
    assert torch.equal(truth, labels.flatten())
    assert torch.equal(predicted.reshape(labels[:, 0].shape), probabilities.argmax(1))
    assert torch.equal(confidence.reshape(labels[:, 0].shape), probabilities.amax(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bins": 0}, "`bins` must be at least 1, got 0"),
        ({"labels": torch.zeros(2, 4, 3, 5)}, r"`labels` must be \(B, 1, .* got \(2, 4, 3, 5\) and \(2, 3, 4, 3, 5\)"),
        ({"labels": torch.full((2, 1, 4, 3, 5), 3)}, "`labels` must be whole numbers from 0 to 2, got 3"),
        ({"labels": torch.full((2, 1, 4, 3, 5), 0.5)}, "`labels` must be whole numbers from 0 to 2, got 0.5"),
        ({"probabilities": torch.full((2, 3, 4, 3, 5), 2.5)}, "must be a softmax over 3 classes, got .* 2.5"),
        ({"probabilities": torch.full((2, 3, 4, 3, 5), 0.1)}, "must be a softmax over 3 classes, got .* 0.1"),
        ({"probabilities": torch.full((2, 3, 4, 3, 5), torch.nan)}, "must be a softmax over 3 classes, got .* nan"),
        ({"mask": torch.ones(2, 4, 3, 5)}, r"`mask` must have the shape of `labels` \(2, 1, 4, 3, 5\), got \(2, 4"),
    ],
)
def test_what_is_refused(change: dict[str, Any], message: str) -> None:
    probabilities, labels = case()
    with pytest.raises(ValueError, match=message):
        reliability_counts(**({"probabilities": probabilities, "labels": labels} | change))


def test_no_counts() -> None:
    with pytest.raises(ValueError, match=r"`counts` must be \(..., bins, 3\), got \(4, 2\)"):
        expected_calibration_error(torch.zeros(4, 2))
