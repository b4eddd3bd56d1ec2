from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_ssl.metrics.embeddings import effective_rank, feature_spread, majority_share, nearest_neighbour_accuracy


def rotated(table: Tensor) -> Tensor:
    turn = torch.linalg.qr(torch.randn(table.shape[1], table.shape[1], dtype=table.dtype))[0]
    return table @ turn


def slow_spread(table: Tensor) -> float:
    directions = [[value / math.hypot(*row) for value in row] for row in table.tolist()]
    middle = [sum(column) / len(directions) for column in zip(*directions, strict=True)]
    return math.sqrt(1 - sum(value**2 for value in middle))


def slow_rank(table: Tensor) -> float:
    """By the eigenvalues of the scatter matrix."""
    centred = table.double().numpy() - table.double().numpy().mean(0)
    singular = [math.sqrt(max(value, 0.0)) for value in np.linalg.eigvalsh(centred.T @ centred)]
    shares = [value / sum(singular) for value in singular]
    return math.exp(-sum(share * math.log(share) for share in shares if share > 1e-6))


def slow_accuracy(table: Tensor, labels: list[int], k: int, groups: list[int]) -> float:
    rows, right = table.tolist(), 0
    for me, row in enumerate(rows):
        others = [
            (sum(a * b for a, b in zip(row, rows[other], strict=True)) / math.hypot(*row) / math.hypot(*rows[other]), c)
            for other, c in enumerate(labels)
            if groups[other] != groups[me]
        ]
        near = sorted(others, reverse=True)[:k]
        votes = {c: (sum(1 for _, d in near if c == d), sum(s for s, d in near if c == d)) for _, c in near}
        right += max(votes, key=lambda c: votes[c]) == labels[me]
    return right / len(rows)


@pytest.mark.parametrize("shape", [(2, 3), (7, 4), (20, 40)])
def test_figures_by_their_definitions(shape: tuple[int, int]) -> None:
    table = torch.randn(*shape, dtype=torch.float64) + 0.5
    assert feature_spread(table) == pytest.approx(slow_spread(table), rel=1e-9)
    assert effective_rank(table) == pytest.approx(slow_rank(table), rel=1e-4)


def test_spread_at_its_limits() -> None:
    one_way = torch.rand(9, 1) * torch.tensor([[1.0, -2.0, 0.5]])
    assert feature_spread(one_way) == pytest.approx(0.0, abs=1e-6)
    assert feature_spread(torch.zeros(4, 3)) == 0.0
    assert feature_spread(torch.cat([one_way, -one_way])) == pytest.approx(1.0)
    assert feature_spread(torch.randn(200, 50)) == pytest.approx(math.sqrt(1 - 1 / 200), abs=2e-3)


def test_what_does_not_change_spread_and_rank() -> None:
    table = torch.randn(12, 5, dtype=torch.float64)
    lengths = torch.rand(12, 1, dtype=torch.float64) + 0.5
    assert feature_spread(rotated(table) * lengths) == pytest.approx(feature_spread(table))
    assert effective_rank(7 * rotated(table) + torch.randn(5)) == pytest.approx(effective_rank(table))


@pytest.mark.parametrize("directions", [1, 2, 5])
def test_rank_counts_equal_directions(directions: int) -> None:
    axes = torch.eye(6)[:directions]
    assert effective_rank(3.0 + torch.cat([axes, -axes])) == pytest.approx(directions, rel=1e-5)


def test_rank_of_equal_rows_is_no_rank_of_rounding_errors() -> None:
    row = torch.rand(1, 32) + 1
    assert effective_rank(row.repeat(20, 1)) == 0.0
    assert effective_rank(row * (1 + 1e-7 * torch.randn(20, 32))) == 0.0
    assert effective_rank(row * (1 + 1e-2 * torch.randn(20, 32))) > 10
    assert effective_rank(torch.zeros(4, 3)) == 0.0


def test_shrinking_towards_one_point_lowers_the_spread_alone() -> None:
    table, centre = torch.randn(40, 8, dtype=torch.float64), torch.full((8,), 2.0, dtype=torch.float64)
    spreads = [feature_spread(centre + scale * table) for scale in (1.0, 0.1, 0.01, 0.0)]
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] == pytest.approx(0.0, abs=1e-9)
    assert effective_rank(centre + 0.01 * table) == pytest.approx(effective_rank(centre + table))


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 100])
@pytest.mark.parametrize("patients", [1, 3])
def test_neighbours_by_loops(k: int, patients: int) -> None:
    table = torch.randn(18, 3, dtype=torch.float64)
    labels = [index * 7 % 3 for index in range(18)]
    groups = [index // patients for index in range(18)]
    expected = slow_accuracy(table, labels, k, groups)
    found = nearest_neighbour_accuracy(table, labels, k, None if patients == 1 else groups)
    assert found == pytest.approx(expected)
    assert nearest_neighbour_accuracy(3 * table, torch.tensor(labels) - 5, k, groups) == pytest.approx(expected)


def test_clusters_are_told_apart_and_noise_is_not() -> None:
    labels = torch.arange(60) % 3
    clusters = torch.eye(3)[labels] + 0.05 * torch.randn(60, 3)
    assert nearest_neighbour_accuracy(clusters, labels) == 1.0
    accuracies = [nearest_neighbour_accuracy(torch.randn(60, 3), labels) for _ in range(30)]
    assert sum(accuracies) / 30 == pytest.approx(1 / 3, abs=0.05)


def test_a_patient_does_not_vouch_for_himself() -> None:
    """Two scans of each patient, alike; patients of one class are not alike."""
    directions = torch.eye(6)
    table, labels = directions.repeat_interleave(2, 0), torch.tensor([0, 1] * 3).repeat_interleave(2)
    patients = torch.arange(6).repeat_interleave(2)
    assert nearest_neighbour_accuracy(table, labels, 1) == 1.0
    assert nearest_neighbour_accuracy(table + 0.01 * torch.randn(12, 6), labels, 5, patients) < 1.0


def test_ties() -> None:
    table = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    assert nearest_neighbour_accuracy(table, [0, 0, 1], k=2) == pytest.approx(2 / 3)  # by the cosine: 0, 0, 0
    assert nearest_neighbour_accuracy(table, [1, 1, 0], k=2) == pytest.approx(2 / 3)  # by the cosine: 1, 1, 1
    even = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert nearest_neighbour_accuracy(even, [4, 9, 2], k=2) == 0.0


def test_chance() -> None:
    assert majority_share([1, 0, 1, 1]) == 0.75
    assert majority_share(torch.tensor([3, 3, 7, 7])) == 0.5
    with pytest.raises(ValueError, match="one class at least"):
        majority_share([])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_any_type_and_never_changed(kind: torch.dtype) -> None:
    table = (10 * torch.randn(8, 4)).to(kind).requires_grad_(kind == torch.float32)
    before, labels = table.detach().clone(), [0, 1] * 4
    figures = feature_spread(table), effective_rank(table), nearest_neighbour_accuracy(table, labels)
    assert all(isinstance(figure, float) for figure in figures)
    assert torch.equal(table.detach(), before)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (torch.zeros(1, 4), r"two cases at least, got \(1, 4\)"),
        (torch.zeros(4), r"must be \(N, F\)"),
        (torch.tensor([[1.0], [float("nan")]]), "must be finite, got NaN"),
    ],
)
def test_no_table(table: Tensor, message: str) -> None:
    for figure in (feature_spread, effective_rank, lambda table: nearest_neighbour_accuracy(table, [0] * len(table))):
        with pytest.raises(ValueError, match=message):
            figure(table)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [0, 1]}, "`labels` must be one whole number for each of 3 cases"),
        ({"labels": [0, 1, 0.5]}, "`labels` must be one whole number"),
        ({"k": 0}, "`k` must be at least 1 neighbour, got 0"),
        ({"groups": [1, 1, 1]}, "`groups` must leave each case a neighbour"),
        ({"groups": [1]}, "`groups` must be one whole number"),
    ],
)
def test_what_neighbours_refuse(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_neighbour_accuracy(torch.randn(3, 2), **({"labels": [0, 1, 0]} | arguments))
