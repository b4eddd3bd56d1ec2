from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_ssl.losses.triplet import FeatureTripletLoss, feature_triplet
from tests import helpers


def slow(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float, squared: bool, normalize: bool) -> float:
    """The equation, triplet by triplet, in Python floats."""

    def distance(left: list[float], right: list[float]) -> float:
        if normalize:
            lengths = [math.sqrt(sum(x * x for x in part)) for part in (left, right)]
            value = 2 - 2 * sum(x * y for x, y in zip(left, right, strict=True)) / lengths[0] / lengths[1]
        else:
            value = sum((x - y) ** 2 for x, y in zip(left, right, strict=True)) / len(left)
        return value if squared else math.sqrt(value)

    triplets = zip(anchor.double().tolist(), positive.double().tolist(), negative.double().tolist(), strict=True)
    losses = [max(0.0, distance(a, p) - distance(a, n) + margin) for a, p, n in triplets]
    return sum(losses) / len(losses)


def triplet(count: int = 8, features: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    anchor = torch.randn(count, features)
    return anchor, anchor + 0.5 * torch.randn(count, features), torch.randn(count, features)


@pytest.mark.parametrize("margin", [0.2, 1.0])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_equals_the_equation(margin: float, squared: bool, normalize: bool) -> None:
    parts = triplet()
    loss = feature_triplet(*parts, margin, squared, normalize)
    assert loss.item() == pytest.approx(slow(*parts, margin, squared, normalize), rel=1e-5)
    assert torch.equal(FeatureTripletLoss(margin, squared, normalize)(*parts), loss)


def test_the_root_is_torchs_loss_for_features_of_mean_square() -> None:
    parts = triplet()
    expected = F.triplet_margin_loss(*(part / 5**0.5 for part in parts), margin=0.7, eps=0.0)
    assert feature_triplet(*parts, margin=0.7, squared=False).item() == pytest.approx(expected.item(), rel=1e-5)


def test_equal_features_cost_the_margin_and_easy_triplets_nothing() -> None:
    anchor = torch.randn(4, 5)
    for squared in (True, False):
        assert feature_triplet(anchor, anchor, anchor, 0.3, squared).item() == pytest.approx(0.3)
    parts = [part.requires_grad_(True) for part in (anchor, anchor + 0.01, anchor + 10)]
    loss = feature_triplet(*parts)
    assert loss.item() == 0
    assert not any(gradient.any() for gradient in torch.autograd.grad(loss, parts))
    opposite = feature_triplet(anchor, -anchor, anchor, normalize=True)
    assert opposite.item() == pytest.approx(5.0)  # 4, the largest distance on the sphere, and the margin


def test_normalised_features_have_no_length() -> None:
    anchor, positive, negative = triplet()
    loss = feature_triplet(anchor, positive, negative, normalize=True)
    assert torch.allclose(feature_triplet(3 * anchor, positive / 7, 5 * negative, normalize=True), loss)
    assert not torch.allclose(feature_triplet(3 * anchor, positive / 7, 5 * negative), feature_triplet(*triplet()))
    assert torch.isfinite(feature_triplet(torch.zeros_like(anchor), positive, negative, normalize=True))


@pytest.mark.parametrize("squared", [True, False])
def test_gradients_reach_all_three_and_are_finite_where_they_meet(squared: bool) -> None:
    parts = [part.requires_grad_(True) for part in triplet()]
    for gradient in torch.autograd.grad(feature_triplet(*parts, margin=5.0, squared=squared), parts):
        assert gradient.any()
    same = torch.randn(3, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(feature_triplet(same, same, same + 0, squared=squared), same)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("normalize", [True, False])
def test_battery(normalize: bool) -> None:
    anchor, positive, negative = triplet()
    module = FeatureTripletLoss(normalize=normalize)
    helpers.check_loss(
        lambda left, right: feature_triplet(left, right.detach(), negative, normalize=normalize),
        lambda left, right: module(left, right.detach(), negative),  # type: ignore[arg-type]
        anchor,
        positive,
        differs=anchor[:, :3],
    )


def test_what_is_refused() -> None:
    anchor, positive, negative = triplet()
    for margin in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="`margin` must be above 0, got"):
            feature_triplet(anchor, positive, negative, margin)
        with pytest.raises(ValueError, match="`margin` must be above 0, got"):
            FeatureTripletLoss(margin)
    with pytest.raises(ValueError, match=r"`input` must be \(B, F\), got \(5,\)"):
        feature_triplet(anchor[0], positive[0], negative[0])
    with pytest.raises(ValueError, match=r"`positive` must have the input's shape \(8, 5\), got \(7, 5\)"):
        feature_triplet(anchor, positive[:7], negative)
    with pytest.raises(ValueError, match=r"`negative` must have the input's shape \(8, 5\), got \(8, 4\)"):
        feature_triplet(anchor, positive, negative[:, :4])
