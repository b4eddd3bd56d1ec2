from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from scipy import ndimage
from torch import Tensor

from monai_ssl.objectives.copy_paste import BidirectionalCopyPaste
from monai_ssl.objectives.supervised import Supervised
from monai_ssl.transforms.mixing import cuboid_mask, draw_partners
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives.mixing import batch, check_resumes, cross_entropy, dice_ce_by_hand, network, voxels


def method(apart: bool = True, progress: float = 0.5, **arguments: Any) -> BidirectionalCopyPaste:
    objective = BidirectionalCopyPaste(network(), cross_entropy, **arguments)
    objective.progress = progress
    if apart and objective.teacher is not None:
        helpers.perturb([objective.teacher], 0.3)
    return objective


def test_battery() -> None:
    objective = method(weights={"pseudo": 0.5})
    reaches = {"supervised": "network", "pseudo": "network"}
    helpers.check_objective(objective, batch(), reaches=reaches)
    helpers.check_objective(objective, batch(3, 3), reaches=reaches)
    assert helpers.frozen(objective) == [objective.teacher]


def test_the_battery_of_the_first_phase() -> None:
    helpers.check_terms(method(progress=0.0, weights={"pseudo": 0.5}), batch())
    helpers.check_teacher_frozen(method(progress=0.0), batch())
    helpers.check_objective(method(labeled_only=True), batch())
    assert helpers.frozen(method(labeled_only=True)) == []


@pytest.mark.parametrize("arguments", [{}, {"labeled_only": True}])
def test_overfits(arguments: dict[str, Any]) -> None:
    objective = method(apart=False, **arguments)
    helpers.check_overfits(objective, batch(), steps=60, learning_rate=3e-2)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_mixes_written_out(count: int) -> None:
    """Every voxel of both mixes set by hand, then the loss in Python floats, region by region."""
    objective, data = method(side=0.5), batch(count, count)
    torch.manual_seed(4)
    terms = objective(data)
    torch.manual_seed(4)
    cuboid = cuboid_mask((4, 6, 4), sides=0.5)[0, 0]
    assert int(cuboid.sum()) == 2 * 3 * 2

    x, y, u = data["labeled"]["image"], data["labeled"]["label"], data["unlabeled"]["image"]
    pseudo = objective.teacher(u).argmax(1, keepdim=True)
    a, b = ([0], [0]) if count == 1 else ([0], [1]) if count == 2 else ([0, 1], [1, 2])
    inward, outward = [(x[a].clone(), y[a].clone()), (u[b].clone(), pseudo[b].clone())]
    for n, *at in voxels(y[a]):
        if cuboid[tuple(at)]:
            inward[0][(n, 0, *at)], inward[1][(n, 0, *at)] = u[(a[n], 0, *at)], pseudo[(a[n], 0, *at)]
            outward[0][(n, 0, *at)], outward[1][(n, 0, *at)] = x[(b[n], 0, *at)], y[(b[n], 0, *at)]
    within = cuboid.expand(len(a), 1, 4, 6, 4)
    into, out = ((objective.network(image).detach(), label) for image, label in (inward, outward))
    supervised = (dice_ce_by_hand(*into, ~within) + dice_ce_by_hand(*out, within)) / 2
    unsupervised = (dice_ce_by_hand(*into, within) + dice_ce_by_hand(*out, ~within)) / 2
    assert terms["supervised"].item() == pytest.approx(supervised, rel=1e-4)
    assert terms["pseudo"].item() == pytest.approx(unsupervised, rel=1e-4)
    assert objective.figures["pseudo_foreground"].item() == pytest.approx((pseudo > 0).float().mean().item())
    surest = torch.softmax(objective.teacher(u), 1).amax(1).mean().item()
    assert objective.figures["confidence"].item() == pytest.approx(surest)


@pytest.mark.parametrize("case", ["labeled_only", "first_phase", "no_unlabeled"])
def test_between_labelled_cases_it_is_supervised_learning_of_their_mixes(case: str) -> None:
    objective = method(labeled_only=case == "labeled_only", progress=0.1 if case == "first_phase" else 0.5)
    data = batch(3, 3)
    x, y = data["labeled"]["image"], data["labeled"]["label"]
    if case == "no_unlabeled":
        del data["unlabeled"]
    torch.manual_seed(1)
    terms = objective(data)
    torch.manual_seed(1)
    cuboid = cuboid_mask((4, 6, 4), sides=2 / 3)
    partner = draw_partners(3)
    mixed = {"image": torch.where(cuboid, x[partner], x), "label": torch.where(cuboid, y[partner], y)}
    expected = Supervised(objective.network, cross_entropy)({"labeled": mixed})
    assert torch.equal(terms["supervised"], expected["supervised"])
    assert not torch.equal(expected["supervised"], cross_entropy(objective.network(x), y))
    assert list(terms) == (["supervised", "pseudo"] if case == "first_phase" else ["supervised"])
    if case == "first_phase":  # the columns of the log stay the same over the run
        assert terms["pseudo"].item() == 0
        assert all(math.isnan(figure.item()) for figure in objective.figures.values())
        objective.progress = 0.5
        names = set(objective.figures)
        objective(batch(3, 3))
        assert set(objective.figures) == names


def test_at_weight_zero_the_true_labels_alone_teach() -> None:
    objective, data = method(weights={"pseudo": 0.0}), batch()

    def gradient() -> list[Tensor]:
        torch.manual_seed(2)
        terms = objective(data)
        assert torch.equal(objective.total(terms), terms["supervised"])
        return list(torch.autograd.grad(objective.total(terms), list(objective.network.parameters())))

    before = gradient()
    helpers.perturb([objective.teacher], 1.0)
    assert helpers.same(gradient(), before)
    data["labeled"]["label"] = (data["labeled"]["label"] + 1) % 3
    assert not helpers.same(gradient(), before)


def test_the_teacher_is_a_copy_through_the_first_phase_and_then_an_average() -> None:
    objective = method(progress=0.0, warmup=0.5, decay=0.9)
    assert objective.deployed is objective.teacher
    for step, progress in enumerate((0.0, 0.49, 0.5, 0.75)):
        objective.progress = progress
        helpers.perturb([objective.network], 0.3)
        old = copy.deepcopy(objective.teacher.state_dict())
        objective.update_teacher(step)
        decay = 0.0 if progress < 0.5 else 0.9
        for name, value in objective.teacher.state_dict().items():
            expected = decay * old[name] + (1 - decay) * objective.network.state_dict()[name]
            assert torch.allclose(value, expected, atol=1e-6), (progress, name)
    objective.reset_teacher()
    assert helpers.same(objective.teacher.state_dict(), objective.network.state_dict())
    helpers.check_no_shared_storage(objective.network, objective.teacher)
    objective.train()
    assert objective.network.training
    assert not any(module.training for module in objective.teacher.modules())


def test_the_baseline_has_no_teacher_and_opens_no_unlabelled_case() -> None:
    objective = method(labeled_only=True)
    assert objective.deployed is objective.network
    assert not [name for name in objective.state_dict() if name.startswith("teacher")]
    objective.reset_teacher()
    objective.update_teacher(0)
    assert objective.train().training
    assert list(objective({"labeled": batch()["labeled"], "unlabeled": {}})) == ["supervised"]


def test_the_largest_component_of_each_class_is_kept() -> None:
    objective, data = method(largest_component=True), batch(2, 3, shape=(8, 8, 8))
    u = data["unlabeled"]["image"]
    raw = objective.teacher(u).argmax(1, keepdim=True)
    labels = objective._labels(u)
    expected = torch.zeros_like(raw)
    for n in range(3):
        for c in (1, 2):
            parts, _ = ndimage.label((raw[n, 0] == c).numpy(), ndimage.generate_binary_structure(3, 3))
            sizes = torch.bincount(torch.as_tensor(parts).flatten())[1:]
            if len(sizes):
                expected[n, 0][torch.as_tensor(parts) == int(sizes.argmax()) + 1] = c
    assert type(labels) is Tensor
    assert torch.equal(labels, expected)
    assert not torch.equal(labels, raw)
    assert objective.figures["pseudo_foreground"].item() == pytest.approx((labels > 0).float().mean().item())


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    def make() -> BidirectionalCopyPaste:  # steps 0 to 4 of 8 are the first phase
        torch.manual_seed(0)
        return BidirectionalCopyPaste(network(), cross_entropy, warmup=0.6)

    check_resumes(make, tmp_path)


METHOD = Path(__file__).parents[2] / "bundles/semi_segmentation/configs/methods/bidirectional_copy_paste.yaml"


@pytest.mark.parametrize("ramp_steps", [None, 0, 1, 7, 49, 50, 60])
@pytest.mark.parametrize("total", [4, 49, 50, 1500])
def test_in_the_bundle_the_first_phase_is_that_without_weight(total: int, ramp_steps: int | None) -> None:
    """At no step is a pseudo term weighed that is not there, or one idle that is."""
    parser = ConfigParser(ConfigParser.load_config_file(METHOD))
    parser["train"] = {"trainer": {"total_steps": total}}
    if ramp_steps is not None:
        parser["ramp_steps"] = ramp_steps
    weight = parser.get_parsed_content("term_weights")["pseudo"]
    objective = method(warmup=parser.get_parsed_content("objective#warmup"), apart=False)
    weights = [weight(step) for step in range(total)]
    decays = []
    for step in range(total):
        objective.progress = step / total  # as the trainer sets it
        decays.append(objective.teacher_decay(step))
    first = round(0.2 * total) if ramp_steps is None else min(ramp_steps, total)
    assert weights == [0.0] * first + [0.5] * (total - first)
    assert decays == [0.0] * first + [0.99] * (total - first)


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(
        UserError, match=r"set labeled_batch_size and unlabeled_batch_size to the same .* got 2 and 3\."
    ):
        method()(batch(2, 3))
    for arguments, message in (
        ({"decay": 1.0}, r"`decay` must be in \[0, 1\), got 1\.0\."),
        ({"side": 0.0}, r"`side` must be in \(0, 1\], got 0\.0\."),
        ({"warmup": 1.5}, r"`warmup` must be in \[0, 1\], a share of the run, got 1\.5\."),
    ):
        with pytest.raises(ValueError, match=message):
            BidirectionalCopyPaste(network(), cross_entropy, **arguments)
