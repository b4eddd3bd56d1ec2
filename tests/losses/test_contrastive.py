from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.losses import ContrastiveLoss
from torch import Tensor

from monai_ssl.losses.contrastive import InfoNCELoss, NTXentLoss, info_nce, nt_xent
from tests import helpers


def cosine(left: Any, right: Any) -> float:
    left, right = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    return float(left @ right / np.sqrt(left @ left) / np.sqrt(right @ right))


def slow(views: Tensor, temperature: float, groups: list[int] | None = None) -> float:
    """The equation, anchor by anchor and positive by positive, in Python floats."""
    B, V, _ = views.shape
    scan = list(range(B)) if groups is None else groups
    terms = []
    for case in range(B):
        others = [views[k, view] for k in range(B) if scan[k] != scan[case] for view in range(V)]
        for anchor in range(V):
            negatives = sum(math.exp(cosine(views[case, anchor], other) / temperature) for other in others)
            for positive in range(V):
                if positive != anchor:
                    agree = math.exp(cosine(views[case, anchor], views[case, positive]) / temperature)
                    terms.append(-math.log(agree / (agree + negatives)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("shape", [(2, 2, 5), (5, 2, 3), (4, 3, 6)])
def test_equals_the_equation(shape: tuple[int, int, int], temperature: float) -> None:
    views = torch.randn(shape)
    assert nt_xent(views, temperature=temperature).item() == pytest.approx(slow(views, temperature), rel=1e-5)
    groups = [0, 7, 7, 3, 0][: shape[0]]
    loss = nt_xent(views, temperature=temperature, groups=torch.tensor(groups))
    assert loss.item() == pytest.approx(slow(views, temperature, groups), rel=1e-5)


def test_two_views_are_monais_loss_and_its_batch_of_one_and_its_nan_are_none() -> None:
    first, second = torch.randn(4, 6), torch.randn(4, 6)
    assert nt_xent(first, second).item() == pytest.approx(ContrastiveLoss(0.5)(first, second).item(), rel=1e-5)
    assert torch.equal(nt_xent(first, second), nt_xent(torch.stack([first, second], 1)))
    assert ContrastiveLoss(0.5)(first[:1], second[:1]) == 0
    assert not torch.isfinite(ContrastiveLoss(0.01)(first, -first))
    assert not torch.isfinite(ContrastiveLoss(0.01)(first, first))
    for other in (first, -first):
        features = first.clone().requires_grad_(True)
        loss = nt_xent(features, other, temperature=0.01)
        (gradient,) = torch.autograd.grad(loss, features)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_limits() -> None:
    aligned = torch.eye(4)[:, None].expand(-1, 2, -1)  # two identical views, all other cases orthogonal
    for temperature in (0.1, 0.5, 1.0):
        expected = math.log1p(6 * math.exp(-1 / temperature))
        assert nt_xent(aligned, temperature=temperature).item() == pytest.approx(expected, rel=1e-5)
    assert nt_xent(aligned, temperature=1e-3).item() == 0
    views = torch.randn(4, 3, 5)
    assert nt_xent(views, temperature=1e6).item() == pytest.approx(math.log(1 + 3 * 3), rel=1e-5)
    assert nt_xent(torch.ones(4, 2, 5)).item() == pytest.approx(math.log(7), rel=1e-5)  # collapsed: one of 2B - 1
    confused = torch.stack([torch.eye(4), torch.eye(4).roll(1, 0)], 1)  # the positive is orthogonal, a negative equal
    assert nt_xent(confused, temperature=0.01).item() == pytest.approx(100, rel=1e-3)


def test_only_directions_count_and_the_order_of_cases_and_views_does_not() -> None:
    views = torch.randn(4, 3, 5)
    loss = nt_xent(views)
    assert torch.allclose(nt_xent(views * torch.rand(4, 3, 1).add(0.1)), loss)
    assert torch.allclose(nt_xent(views[[2, 0, 3, 1]][:, [1, 2, 0]]), loss)


def test_cases_of_one_scan_do_not_push_each_other_apart() -> None:
    views = torch.randn(3, 2, 5)
    assert torch.allclose(nt_xent(views, groups=torch.tensor([5, 9, -1])), nt_xent(views))
    twins = torch.cat([views, views[:1]])  # the first scan's crop once more
    assert nt_xent(twins) > nt_xent(twins, groups=torch.tensor([0, 1, 2, 0]))


def test_gradients_reach_all_views() -> None:
    views = torch.randn(3, 3, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(nt_xent(views), views)
    assert gradient.flatten(2).any(-1).all()
    first, second = (torch.randn(3, 5, requires_grad=True) for _ in range(2))
    assert all(part.any() for part in torch.autograd.grad(nt_xent(first, second), (first, second)))


def test_battery() -> None:
    views, groups = torch.randn(4, 2, 6), torch.tensor([0, 1, 1, 2])
    module = NTXentLoss(0.2)
    helpers.check_loss(
        lambda input, scan: nt_xent(input, temperature=0.2, groups=scan),
        lambda input, scan: module(input, groups=scan),  # type: ignore[arg-type]
        views,
        groups,
        differs=views[:, :1],
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(views), nt_xent(views, temperature=0.2))
    assert torch.equal(module(views), nt_xent(views, temperature=0.2))


def slow_queue(query: Tensor, key: Tensor, negatives: Tensor, allowed: Tensor, temperature: float) -> float:
    terms = []
    for case in range(len(query)):
        agree = math.exp(cosine(query[case], key[case]) / temperature)
        against = sum(
            math.exp(cosine(query[case], other) / temperature)
            for number, other in enumerate(negatives)
            if allowed[case, number]
        )
        terms.append(-math.log(agree / (agree + against)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("count", [1, 3])
def test_queries_against_a_queue_equal_the_equation(count: int, temperature: float) -> None:
    query, key, negatives = torch.randn(count, 5), torch.randn(count, 5), torch.randn(7, 5)
    allowed = torch.rand(count, 7) < 0.6
    expected = slow_queue(query, key, negatives, allowed, temperature)
    assert info_nce(query, key, negatives, allowed, temperature).item() == pytest.approx(expected, rel=1e-5)
    expected = slow_queue(query, key, negatives, torch.ones(count, 7), temperature)
    assert info_nce(query, key, negatives, temperature=temperature).item() == pytest.approx(expected, rel=1e-5)


def test_battery_of_the_queue() -> None:
    query, key, negatives = torch.randn(3, 5), torch.randn(3, 5), torch.randn(7, 5, requires_grad=True)
    module = InfoNCELoss()
    helpers.check_loss(
        lambda input, target: info_nce(input, target, negatives),
        lambda input, target: module(input, target, negatives),  # type: ignore[arg-type]
        query,
        key,
        differs=query[:2],
    )
    query.requires_grad_(True)
    loss = info_nce(query, key, negatives, temperature=0.01)
    loss.backward()
    assert negatives.grad is None
    assert torch.isfinite(query.grad).all()  # type: ignore[arg-type]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(query, key, negatives), info_nce(query, key, negatives))


def test_without_a_negative_the_queues_loss_is_zero_and_differentiable() -> None:
    query, key, negatives = torch.randn(2, 5, requires_grad=True), torch.randn(2, 5), torch.zeros(7, 5)
    allowed = torch.zeros(2, 7, dtype=torch.bool)
    loss = info_nce(query, key, negatives, allowed)
    (gradient,) = torch.autograd.grad(loss, query)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))
    allowed[1, 3] = True  # a query without a negative does not disturb one with one
    negatives[3] = torch.randn(5)
    (gradient,) = torch.autograd.grad(info_nce(query, key, negatives, allowed), query)
    assert not gradient[0].any()
    assert gradient[1].any()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_out_of_range(temperature: float) -> None:
    views = torch.randn(3, 2, 5)
    for build in (NTXentLoss, InfoNCELoss, lambda t: nt_xent(views, temperature=t)):
        with pytest.raises(ValueError, match="`temperature` must be above 0, got"):
            build(temperature)


def test_shapes_and_batches_that_are_refused() -> None:
    one, two = torch.randn(3, 5), torch.randn(3, 2, 5)
    with pytest.raises(ValueError, match=r"`input` must be \(B, V, F\) with two views or more, got \(3, 5\)"):
        nt_xent(one)
    for left, right in ((one, one[:2]), (two, two)):
        with pytest.raises(ValueError, match=r"`input` and `target` must be \(B, F\) alike"):
            nt_xent(left, right)
    with pytest.raises(ValueError, match=r"`groups` must be one number a case, \(3,\), got \(2,\)"):
        nt_xent(two, groups=torch.arange(2))
    with pytest.raises(ValueError, match=r"A batch of 1 from one scan holds no negative: .* info_nce and a Feat"):
        nt_xent(two[:1])
    with pytest.raises(ValueError, match="A batch of 3 from one scan holds no negative"):
        nt_xent(two, groups=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"`negatives` must be \(K, 5\), got \(7, 4\)"):
        info_nce(one, one, torch.randn(7, 4))
    with pytest.raises(ValueError, match=r"`allowed` must be \(3, 7\), got \(2, 7\)"):
        info_nce(one, one, torch.randn(7, 5), torch.ones(2, 7, dtype=torch.bool))
