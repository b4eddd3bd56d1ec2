from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from monai_ssl.objectives.adaptive_blended_consistency import AdaptiveBlendedConsistency
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives import semi


def method(network: nn.Module | None = None, classes: int = 2, **arguments: Any) -> AdaptiveBlendedConsistency:
    return AdaptiveBlendedConsistency(network or semi.Net(classes), semi.cross_entropy, classes=classes, **arguments)


@pytest.fixture
def batch() -> semi.Batch:
    return semi.two_views()


def three_classes(batch: semi.Batch) -> semi.Batch:
    batch["labeled"]["label"][:, :, 4:, 4:] = 2
    return batch


def test_battery(batch: semi.Batch) -> None:
    objective = method(semi.Net(dropout=0.2))
    helpers.check_objective(objective, batch, reaches={"supervised": "network", "consistency": "network"})
    assert objective.deployed is objective.network


def test_overfits(batch: semi.Batch) -> None:
    helpers.check_overfits(method(semi.Net(sharpness=1)), batch, steps=60, learning_rate=3e-2)


@pytest.mark.parametrize(
    ("classes", "gain", "power", "include_background"),
    [(2, 0.4, 1.0, True), (3, 0.4, 0.5, True), (3, 3.0, 0.5, False), (3, 3.0, 1.0, True)],
)
def test_the_terms_and_figures_are_re_derived(
    classes: int, gain: float, power: float, include_background: bool, batch: semi.Batch
) -> None:
    label = (three_classes(batch) if classes == 3 else batch)["labeled"]["label"]
    objective = method(
        semi.Net(classes, sharpness=4), classes, gain=gain, power=power, include_background=include_background
    )
    terms = objective(batch)

    counts = [1 + sum(int(label[b, 0, i, j, k]) == c for b, i, j, k in semi.voxels(label)) for c in range(classes)]
    counted = range(0 if include_background else 1, classes)
    total = sum(counts[c] ** power for c in counted)
    frequencies = {c: counts[c] ** power / total for c in counted}
    views = [torch.softmax(objective.network(batch["unlabeled"][key]).double(), 1) for key in ("image", "strong")]
    divergence, leaning, agreed, foreground = 0.0, 0, 0, 0
    for b, i, j, k in semi.voxels(views[0]):
        z, other = (view[b, :, i, j, k].tolist() for view in views)
        mine, theirs = (view.index(max(view)) for view in (z, other))
        share = 0.5
        if mine in frequencies and theirs in frequencies:
            share = min(max(gain * (frequencies[mine] - frequencies[theirs]) + 0.5, 0.0), 1.0)
        leaning += share != 0.5
        agreed += mine == theirs
        foreground += mine > 0
        for one, two in zip(z, other, strict=True):
            blend = (1 - share) * one + share * two
            divergence += blend * (2 * math.log(blend) - math.log(one) - math.log(two))
    voxels = batch["unlabeled"]["image"].numel()
    assert leaning > 0
    assert terms["consistency"].item() == pytest.approx(divergence / voxels, rel=1e-4)

    own = objective.network(batch["labeled"]["image"]).argmax(1, keepdim=True)
    figures = {name: figure.item() for name, figure in objective.figures.items()}
    assert figures == pytest.approx(
        {
            "agreement": agreed / voxels,
            "pseudo_foreground": foreground / voxels,
            "background_recall": (own[label == 0] == 0).double().mean().item(),
        }
    )


def test_labelled_voxels_are_counted_while_training(batch: semi.Batch) -> None:
    objective = method(semi.Net(3), 3)
    assert objective.counts.tolist() == [0, 0, 0]
    labels = []
    for _ in range(3):
        batch["labeled"]["label"] = torch.randint(3, (2, 1, 6, 6, 6)).float()
        labels.append(batch["labeled"]["label"].long().numpy().ravel())
        objective(batch)
    expected = np.bincount(np.concatenate(labels), minlength=3).tolist()
    assert objective.counts.tolist() == expected
    objective.eval()(batch)
    assert objective.counts.tolist() == expected
    objective.train()({"labeled": batch["labeled"]})
    assert objective.counts.sum().item() == 4 * 2 * 6**3
    assert "counts" in objective.state_dict()
    assert method(semi.Net().to("meta")).counts.device.type == "meta"  # where the network is: nobody moves it later


class Given(nn.Module):
    """Answers the two views with given logits."""

    def __init__(self, logits: list[torch.Tensor]) -> None:
        super().__init__()
        self.logits = nn.ParameterList(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first, second = self.logits
        labeled = len(images) - len(first) - len(second)
        return torch.cat([first.new_zeros(labeled, *first.shape[1:]), first, second])


@pytest.mark.parametrize(("common", "rare"), [(0, 1), (1, 0)])
def test_where_views_disagree_the_rarer_class_stays_and_the_other_moves(
    common: int, rare: int, batch: semi.Batch
) -> None:
    objective = method(Given([torch.randn(3, 2, 6, 6, 6) for _ in range(2)]), gain=10.0).eval()  # the rarer takes all
    views = list(objective.network.parameters())
    objective.counts[common], objective.counts[rare] = 10_000, 100
    gradients = torch.autograd.grad(objective(batch)["consistency"], views)
    classes = [view.argmax(1) for view in views]
    apart = classes[0] != classes[1]
    for predicted, gradient in zip(classes, gradients, strict=True):
        moved = gradient.abs().amax(1) > 1e-8
        assert not moved[apart & (predicted == rare)].any()
        assert moved[apart & (predicted == common)].all()
        assert moved[~apart].float().mean() > 0.9  # towards their mean


def test_views_can_be_exchanged_and_both_learn(batch: semi.Batch) -> None:
    objective = method(gain=0.7)
    unlabeled = batch["unlabeled"]
    for view in unlabeled.values():
        view.requires_grad_(True)
    term = objective(batch)["consistency"]
    for gradient in torch.autograd.grad(term, list(unlabeled.values())):
        assert gradient.any()
    objective.eval()
    before = objective(batch)["consistency"]
    batch["unlabeled"] = {"image": unlabeled["strong"], "strong": unlabeled["image"]}
    assert objective(batch)["consistency"].item() == pytest.approx(before.item(), rel=1e-5)


def test_equal_views_agree(batch: semi.Batch) -> None:
    batch["unlabeled"]["strong"] = batch["unlabeled"]["image"].clone()
    objective = method()
    assert objective(batch)["consistency"].item() == pytest.approx(0, abs=1e-6)
    assert objective.figures["agreement"].item() == 1


def test_a_single_foreground_class_has_nothing_to_be_weighed_against(batch: semi.Batch) -> None:
    network = semi.Net()
    terms = [
        method(network, gain=gain, include_background=background)(batch)["consistency"].item()
        for gain, background in ((3.0, False), (0.0, True), (3.0, True))
    ]
    assert terms[0] == pytest.approx(terms[1], rel=1e-6)
    assert terms[2] != pytest.approx(terms[1], rel=1e-3)


def test_foreground_alone_works_before_any_foreground_was_seen(batch: semi.Batch) -> None:
    batch["labeled"]["label"].zero_()
    objective = method(semi.Net(3), 3, include_background=False)
    assert torch.isfinite(objective(batch)["consistency"])
    assert objective._frequencies().tolist() == pytest.approx([0, 0.5, 0.5])


def test_weight_zero_is_supervised(batch: semi.Batch) -> None:
    semi.check_supervised_at_weight_zero(method, "consistency", batch)


def test_without_unlabelled_cases_it_is_supervised(batch: semi.Batch) -> None:
    semi.check_supervised_without_unlabeled(method, batch)


def test_resumes_exactly(batch: semi.Batch) -> None:
    semi.check_resumes(method, batch)


def test_the_second_view_is_needed(batch: semi.Batch) -> None:
    del batch["unlabeled"]["strong"]
    with pytest.raises(UserError, match=r"needs the entry 'strong' in the unlabelled stream; it has image\."):
        method()(batch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 1}, r"`classes` must be 2 or more, background included, got 1\."),
        ({"gain": -0.1}, r"`gain` must be 0 or more, got -0\.1\."),
        ({"power": 1.5}, r"`power` must be in \[0, 1\], got 1\.5\."),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(**arguments)


def test_the_number_of_classes_must_be_the_networks(batch: semi.Batch) -> None:
    with pytest.raises(ValueError, match=r"`frequencies` must be \(2,\), one a class, got \(3,\)\."):
        method(semi.Net(2), 3)(batch)
