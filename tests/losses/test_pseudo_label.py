from __future__ import annotations

import math
from functools import partial
from itertools import product

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from torch import Tensor

from monai_ssl.losses.pseudo_label import MaskedDiceCELoss, masked_cross_entropy, masked_dice, masked_dice_ce
from tests import helpers

SHAPE = (2, 3, 4, 3, 2)


def pair(shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, class numbers, a mask."""
    hard = torch.randint(shape[1], (shape[0], 1, *shape[2:]))
    return 2 * torch.randn(shape), hard, torch.rand(shape[0], 1, *shape[2:]) < 0.5


def soft(target: Tensor, classes: int) -> Tensor:
    """Class numbers as probabilities of 0 and 1."""
    return torch.stack([target[:, 0] == number for number in range(classes)], 1).float()


def slow(input: Tensor, target: Tensor, mask: Tensor, include_background: bool) -> tuple[float, float]:
    """Both equations, voxel by voxel, in Python floats; the target as probabilities."""
    C = input.shape[1]
    entropy = total = 0.0
    common, sizes = [0.0] * C, [0.0] * C
    for case, voxel in product(range(len(input)), range(mask[0].numel())):
        m = float(mask[case].flatten()[voxel])
        logits, y = (part[case].reshape(C, -1)[:, voxel].tolist() for part in (input, target))
        partition = sum(math.exp(logit) for logit in logits)
        p = [math.exp(logit) / partition for logit in logits]
        entropy -= m * sum(b * math.log(a) for a, b in zip(p, y, strict=True))
        total += m
        for number in range(C):
            common[number] += m * min(p[number], y[number])
            sizes[number] += m * (p[number] + y[number])
    first = 0 if include_background else 1
    dice = [1 - (2 * common[c] + 1e-5) / (sizes[c] + 1e-5) for c in range(first, C)]
    return entropy / total, sum(dice) / len(dice)


@pytest.mark.parametrize("shape", [SHAPE, (1, 2, 5, 4)])
@pytest.mark.parametrize("background", [False, True])
def test_equals_the_equations(shape: tuple[int, ...], background: bool) -> None:
    input, hard, mask = pair(shape)
    between = torch.softmax(torch.randn(shape), 1)
    for weight in (mask, torch.rand(mask.shape), torch.ones_like(mask)):
        for given, probabilities in (
            (hard, soft(hard, shape[1])),
            (hard.float(), soft(hard, shape[1])),
            (between, between),
        ):
            entropy, dice = slow(input, probabilities, weight, background)
            assert masked_cross_entropy(input, given, weight).item() == pytest.approx(entropy, rel=1e-5)
            assert masked_dice(input, given, weight, background).item() == pytest.approx(dice, rel=1e-5)
            both = masked_dice_ce(input, given, weight, include_background=background)
            assert both.item() == pytest.approx((entropy + dice) / 2, rel=1e-5)


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("background", [True, False])
def test_a_full_mask_is_the_loss_of_the_labelled_cases(background: bool, batch: bool) -> None:
    input, target, _ = pair((3, 4, 5, 4, 3))
    theirs = DiceCELoss(background, True, softmax=True, batch=batch, lambda_dice=0.5, lambda_ce=0.5)
    ours = MaskedDiceCELoss(background, batch)
    input.requires_grad_(True)
    for mask in (None, torch.ones_like(target)):
        losses = ours(input, target, mask), theirs(input, target)
        assert torch.allclose(*losses)
        gradient, expected = (torch.autograd.grad(loss, input)[0] for loss in losses)
        assert torch.allclose(gradient, expected, atol=1e-7)


def test_probabilities_have_the_dice_loss_of_soft_labels() -> None:
    input, _, _ = pair()
    target = torch.softmax(torch.randn(SHAPE), 1)
    theirs = DiceLoss(softmax=True, batch=True, include_background=False, soft_label=True)
    assert masked_dice(input, target).item() == pytest.approx(theirs(input, target).item(), rel=1e-5)
    same = input.clone().requires_grad_(True)
    assert masked_dice(same, torch.softmax(input, 1)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["numbers", "probabilities"])
def test_battery(kind: str) -> None:
    input, target, _ = pair()
    given = target if kind == "numbers" else torch.softmax(torch.randn(SHAPE), 1)
    helpers.check_loss(masked_dice_ce, MaskedDiceCELoss(), input, given, differs=input[..., :1])


def test_masking_is_cutting_the_voxels_out() -> None:
    input, target, mask = pair()
    kept, labels = input.movedim(1, -1)[mask[:, 0]], target[mask]
    within = kept.t()[None, :, :, None], labels[None, None, :, None]
    for loss in (masked_cross_entropy, masked_dice, masked_dice_ce):
        assert loss(input, target, mask).item() == pytest.approx(loss(*within).item(), rel=1e-5)


@pytest.mark.parametrize("outside", [255, -1, -100, 0])
def test_outside_the_mask_nothing_counts(outside: int) -> None:
    input, target, mask = pair()
    for loss in (masked_cross_entropy, masked_dice, masked_dice_ce):
        expected = loss(input, target, mask)
        logits = torch.where(mask, input, torch.randn_like(input)).requires_grad_(True)
        got = loss(logits, torch.where(mask, target, outside), mask)
        assert torch.equal(got, expected)
        (gradient,) = torch.autograd.grad(got, logits)
        assert not gradient[~mask.expand_as(gradient)].any()
        assert gradient[mask.expand_as(gradient)].any()
        background = loss(input, torch.where(mask, target, 0))
        assert abs(background.item() - expected.item()) > 1e-3  # what taking them for background would give


@pytest.mark.parametrize("batch", [True, False])
def test_an_empty_mask_is_zero_and_differentiable(batch: bool) -> None:
    input, target, mask = pair()
    input.requires_grad_(True)
    for given, empty in product((target, soft(target, 3)), (torch.zeros_like(mask), torch.zeros(mask.shape))):
        for loss in (masked_cross_entropy, partial(masked_dice, batch=batch), partial(masked_dice_ce, batch=batch)):
            value = loss(input, given, empty)
            (gradient,) = torch.autograd.grad(value, input)
            assert value.item() == 0
            assert torch.equal(gradient, torch.zeros_like(gradient))


def test_case_by_case_a_case_without_trusted_voxels_does_not_count() -> None:
    input, target, mask = pair((3, *SHAPE[1:]))
    mask[1] = False
    alone = [masked_dice(input[[case]], target[[case]], mask[[case]]).item() for case in (0, 2)]
    assert masked_dice(input, target, mask, batch=False).item() == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_scaling_the_weights_changes_nothing() -> None:
    input, target, mask = pair()
    weight = torch.rand(mask.shape)
    assert torch.allclose(masked_dice_ce(input, target, 3 * weight), masked_dice_ce(input, target, weight), rtol=1e-4)


def test_regions_are_normalised_each_by_itself() -> None:
    input, target, mask = pair()
    regions = torch.randint(3, mask.shape)
    loss = MaskedDiceCELoss(region_weights=(1.0, 0.5, 0.0))
    parts = [masked_dice_ce(input, target, mask & (regions == number)).item() for number in range(3)]
    assert loss(input, target, mask, regions).item() == pytest.approx(parts[0] + 0.5 * parts[1], rel=1e-5)
    assert loss(input, target, mask).item() == pytest.approx(masked_dice_ce(input, target, mask).item(), rel=1e-5)
    beyond = masked_dice_ce(input, target, mask, regions, (2.0,))
    assert beyond.item() == pytest.approx(2 * parts[0], rel=1e-5)


def test_bidirectional_copy_paste_is_two_regions() -> None:
    input, target, pasted = pair()
    got = MaskedDiceCELoss()(input, target, regions=pasted)
    labeled, pseudo = (masked_dice_ce(input, target, part).item() for part in (~pasted, pasted))
    assert got.item() == pytest.approx(labeled + 0.5 * pseudo, rel=1e-5)


def test_no_part_is_left_on_another_device() -> None:
    input, target, mask = (part.to("meta") for part in pair())
    for given in (None, mask):
        assert masked_dice_ce(input, target, given, mask, batch=False).device.type == "meta"


def test_what_is_refused() -> None:
    input, target, mask = pair()
    for loss in (masked_cross_entropy, masked_dice, masked_dice_ce):
        for wrong in (mask.expand(-1, 3, -1, -1, -1), mask[:, 0], mask[:1]):
            with pytest.raises(ValueError, match=r"`mask` must be \(B, 1, \.\.\.\) beside input \(2, 3, 4, 3, 2\)"):
                loss(input, target, wrong)
        for labels in (target[:, 0], target.expand(-1, 2, -1, -1, -1), target[:1]):
            with pytest.raises(
                ValueError, match=r"`target` must be \(2, 1, 4, 3, 2\) or \(2, 3, 4, 3, 2\) beside input"
            ):
                loss(input, labels, mask)
        with pytest.raises(ValueError, match=r"`input` must be \(B, C, \.\.\.\) with 2 or more classes, got \(2, 1, 4"):
            loss(input[:, :1], target, mask)
    with pytest.raises(
        ValueError, match=r"`regions` must be \(B, 1, \.\.\.\) beside input \(2, 3, 4, 3, 2\), got \(2, 4"
    ):
        masked_dice_ce(input, target, mask, mask[:, 0])
    with pytest.raises(
        ValueError, match=r"`mask` must be \(B, 1, \.\.\.\) beside input \(2, 3, 4, 3, 2\), got \(1, 1, 4"
    ):
        masked_dice_ce(input, target, mask[:1], mask)
    for weights in ((), (1.0, -0.5)):
        with pytest.raises(ValueError, match=r"`region_weights` must be numbers from 0, one a region, got"):
            MaskedDiceCELoss(region_weights=weights)
        with pytest.raises(ValueError, match=r"`region_weights` must be numbers from 0, one a region, got"):
            masked_dice_ce(input, target, mask, mask, weights)
