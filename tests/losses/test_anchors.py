from __future__ import annotations

import pytest
import torch

from monai_ssl.losses.anchors import box_regression, mean_over_positives, one_hot_targets, shared_divisor


def test_one_hot_targets_are_those_of_a_loop() -> None:
    matched = torch.tensor([[0, -1, 2, 2], [-1, -1, 1, -1], [-1, -1, -1, -1]])
    labels = torch.tensor([[1, -1, 0], [-1, 2, -1], [-1, -1, -1]])
    targets = one_hot_targets(matched, labels, 3)
    assert targets.shape == (3, 4, 3)
    for b in range(3):
        for n in range(4):
            row = int(matched[b, n])
            expected = [float(row >= 0 and int(labels[b, row]) == c) for c in range(3)]
            assert targets[b, n].tolist() == expected


def test_targets_of_patches_without_rows() -> None:
    assert (
        one_hot_targets(torch.full((2, 5), -1), torch.zeros(2, 0, dtype=torch.int64), 2).tolist() == [[[0, 0]] * 5] * 2
    )


def test_an_anchor_weighs_the_same_in_labelled_and_unlabelled_patches() -> None:
    matched = torch.tensor([[-1, 0, 0, -1, 2], [-1, -1, -1, -1, -1]])
    for patches in (2, 3):
        losses = torch.rand(patches, 5, 2)
        expected = sum(losses.flatten().tolist()) / patches / (3 / 2)
        assert mean_over_positives(losses, matched).item() == pytest.approx(expected, rel=1e-5)
    nothing = torch.full((2, 5), -1)
    assert mean_over_positives(losses, nothing).item() == pytest.approx(losses.sum().item() / 3 * 2, rel=1e-5)


def test_regression_is_a_weighted_mean() -> None:
    codes, targets = 2 * torch.randn(9, 6), torch.randn(9, 6)
    weights = torch.rand(9)
    total = 0.0
    for said, wanted, weight in zip(codes.tolist(), targets.tolist(), weights.tolist(), strict=True):
        off = [abs(a - b) for a, b in zip(said, wanted, strict=True)]
        total += weight * sum(d - 0.5 if d > 1 else 0.5 * d**2 for d in off)
    assert box_regression(codes, targets, weights).item() == pytest.approx(total / weights.sum().item(), rel=1e-4)
    assert box_regression(targets, targets, weights).item() == 0


def test_regression_without_an_anchor_is_zero_and_differentiable() -> None:
    codes = torch.randn(2, 5, 6, requires_grad=True)
    nothing = torch.zeros(2, 5, dtype=torch.bool)
    loss = box_regression(codes[nothing], torch.zeros(0, 6), torch.zeros(0))
    assert loss.item() == 0
    loss.backward()
    assert codes.grad is not None
    assert not codes.grad.any()


@pytest.mark.parametrize(
    ("others", "own", "expected"), [(10.0, [1.0, 1.0], 4.0), (0.0, [], 1 / 3), (0.0, [2.0], 2 / 3)]
)
def test_the_divisor_is_shared_out_among_processes(
    monkeypatch: pytest.MonkeyPatch, others: float, own: list[float], expected: float
) -> None:
    """Of three processes; the sum of all is 1 at least, not that of each."""
    distributed = torch.distributed
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    monkeypatch.setattr(distributed, "all_reduce", lambda total: total.add_(others))
    assert shared_divisor(torch.tensor(own)).item() == pytest.approx(expected)


def test_a_loss_that_took_the_mean_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one for each of 3 anchors and class, \(B, N, C\), got \(\): .*\"none\""):
        mean_over_positives(torch.tensor(1.0), torch.zeros(2, 3))
