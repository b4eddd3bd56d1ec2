from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import UNETR, BasicUNet, SwinUNETR
from monai.networks.nets.unet import CheckpointUNet
from torch import Tensor, nn

from monai_ssl.networks.encoder import encoder_taps
from monai_ssl.objectives import strong_view_teacher
from monai_ssl.objectives.strong_view_teacher import StrongViewTeacher
from monai_ssl.objectives.supervised import Supervised
from monai_ssl.transforms.mixing import cuboid_mask, draw_partners
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives.mixing import batch, check_resumes, cross_entropy, dice_ce_by_hand, network, voxels


def method(apart: bool = True, **arguments: Any) -> StrongViewTeacher:
    objective = StrongViewTeacher(network(), cross_entropy, **({"threshold": 0.5} | arguments))
    if apart:
        helpers.perturb([objective.teacher], 0.4)
    return objective


@pytest.mark.parametrize("strong", [("strong", "strong_b"), "strong"])
def test_battery(strong: Any) -> None:
    objective = method(strong=strong, dropout=1.0)
    helpers.check_objective(objective, batch(2, 3), reaches={"supervised": "network", "pseudo": "network"})
    assert helpers.frozen(objective) == [objective.teacher]


def test_overfits() -> None:
    helpers.check_overfits(method(apart=False), batch(), steps=80, learning_rate=3e-2, ratio=0.6)


@pytest.mark.parametrize(("strong", "labeled"), [(("strong", "strong_b"), 2), (("strong",), 3), (("strong",) * 2, 1)])
def test_the_mixes_written_out(strong: tuple[str, ...], labeled: int) -> None:
    """Certainty, labelled cuboids and donors voxel by voxel, then the loss over both views in Python floats."""
    objective, data = method(strong=strong, dropout=0.0, threshold=0.6), batch(labeled, 3)
    torch.manual_seed(6)
    terms = objective(data)
    torch.manual_seed(6)
    weak, x, y = data["unlabeled"]["image"], data["labeled"]["image"], data["labeled"]["label"]
    p = torch.softmax(objective.teacher(weak), 1).detach()
    label, sure = p.argmax(1, keepdim=True), p.amax(1, keepdim=True) > 0.6
    certainty = []
    for n in range(3):
        top, bottom = 0.0, 0.0
        for _, *at in voxels(weak[:1]):
            q = p[(n, slice(None), *at)].tolist()
            top += (1 - q[0]) * max(q) * (1 + sum(c * math.log(c) for c in q) / math.log(3))
            bottom += 1 - q[0]
        certainty.append(top / bottom)

    views, labels, masks, pastes = [], [], [], 0
    for name in strong:
        chosen, chance = torch.randint(labeled, (3,)).tolist(), torch.rand(3).tolist()
        first = cuboid_mask((4, 6, 4), 3, volume=(0.1, 0.6))
        partners = draw_partners(3).tolist()
        second = cuboid_mask((4, 6, 4), 3, volume=(0.1, 0.6))
        strong_view = data["unlabeled"][name]
        view, target, mask = strong_view.clone(), label.clone(), sure.clone()
        for n, *at in voxels(weak):
            if second[(n, 0, *at)]:
                d = partners[n]
                if first[(d, 0, *at)] and chance[d] >= certainty[d]:
                    pastes += 1
                    view[(n, 0, *at)], target[(n, 0, *at)] = x[(chosen[d], 0, *at)], y[(chosen[d], 0, *at)]
                    mask[(n, 0, *at)] = True
                else:
                    view[(n, 0, *at)], target[(n, 0, *at)] = strong_view[(d, 0, *at)], label[(d, 0, *at)]
                    mask[(n, 0, *at)] = sure[(d, 0, *at)]
        views, labels, masks = [*views, view], [*labels, target], [*masks, mask]
    assert pastes > 0
    logits = objective.network(torch.cat(views)).detach()
    expected = dice_ce_by_hand(logits, torch.cat(labels), torch.cat(masks))
    assert terms["pseudo"].item() == pytest.approx(expected, rel=1e-4)
    figures = {name: figure.item() for name, figure in objective.figures.items()}
    assert figures["certainty"] == pytest.approx(sum(certainty) / 3, rel=1e-5)
    assert figures["kept"] == pytest.approx(sure.float().mean().item())
    assert 0 < figures["kept"] < 1
    assert figures["kept_foreground"] == pytest.approx((sure & (label > 0)).sum().item() / (label > 0).sum().item())


def test_sure_cases_get_no_labelled_part_and_unsure_ones_do() -> None:
    objective, data = method(mix_volume=(1.0, 1.0)), batch(1, 2)
    own = [torch.zeros(2, 1, 4, 6, 4), torch.zeros(2, 1, 4, 6, 4).long(), torch.zeros(2, 1, 4, 6, 4).bool()]
    data["labeled"]["image"] = data["labeled"]["image"] + 5
    for certainty, labelled in ((1.0, False), (0.0, True)):
        image, label, kept = objective._mixed(own, torch.full((2,), certainty), data["labeled"])
        assert bool(kept.all()) == labelled
        assert bool(kept.any()) == labelled
        assert torch.equal(image[1:], data["labeled"]["image"]) == labelled
        assert torch.equal(label[1:], data["labeled"]["label"]) == labelled


def test_at_weight_zero_it_is_supervised_learning() -> None:
    objective, data = method(weights={"pseudo": 0.0}, dropout=1.0), batch()
    expected = Supervised(objective.network, cross_entropy)(data)["supervised"]
    terms = objective(data)
    assert torch.equal(objective.total(terms), terms["supervised"])
    assert terms["supervised"].item() == pytest.approx(expected.item(), rel=1e-6)
    del data["unlabeled"]
    assert torch.equal(objective(data)["supervised"], expected)


def deepest(objective: StrongViewTeacher, data: Any) -> tuple[Tensor, Tensor]:
    """The student's deepest map as its own layer makes it, and as the next layer gets it."""
    made, got = [], []
    bottom = encoder_taps(objective.network).maps[-1]
    handles = [bottom.register_forward_hook(lambda m, i, output: made.append(output.detach()))]
    up = objective.network.model[2]
    handles.append(up.register_forward_pre_hook(lambda m, inputs: got.append(inputs[0].detach()[:, -8:])))
    objective(data)
    for handle in handles:
        handle.remove()
    return made[0], got[0]


def test_the_two_views_lose_complementary_channels_and_labelled_cases_none() -> None:
    objective, data = method(dropout=1.0), batch(2, 40)
    made, got = deepest(objective, data)
    assert torch.equal(got[:2], made[:2])
    factors = []
    for n in range(2, 82):
        for c in range(8):
            dropped = not bool(got[n, c].any())
            assert torch.equal(got[n, c], torch.zeros_like(made[n, c]) if dropped else 2 * made[n, c])
            factors.append(not dropped)
    first, second = torch.tensor(factors).view(2, 40, 8)
    assert torch.equal(first, ~second)
    assert 0.35 < first.float().mean() < 0.65
    for off in (method(dropout=0.0), method(dropout=1.0).eval(), method(dropout=1.0, strong="strong")):
        made, got = deepest(off, batch(2, 3))
        assert torch.equal(made, got)


def test_about_the_given_share_of_cases_loses_features() -> None:
    made, got = deepest(method(dropout=0.5), batch(1, 60))
    whole = [torch.equal(got[n], made[n]) for n in range(1, 121)]
    assert whole[:60] == whole[60:]
    assert 18 < sum(whole[:60]) < 42


@pytest.mark.parametrize("kind", ["BasicUNet", "UNETR", "SwinUNETR"])
def test_maps_tokens_and_lists_of_maps(kind: str) -> None:
    """A channel is dropped over the whole volume, wherever a network's class keeps its channels."""
    side = 32 if kind == "SwinUNETR" else 16
    made: dict[str, Any] = {
        "BasicUNet": lambda: BasicUNet(3, 1, 2, features=(4, 4, 4, 4, 8, 4), norm="batch"),
        "UNETR": lambda: UNETR(1, 2, 16, feature_size=4, hidden_size=12, mlp_dim=12, num_heads=2),
        "SwinUNETR": lambda: SwinUNETR(
            1, 2, norm_name="batch", feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)
        ),
    }
    net: nn.Module = made[kind]().eval()
    images = torch.rand(3, 1, side, side, side)
    outputs: list[Any] = []
    bottom = encoder_taps(net).maps[-1]
    with strong_view_teacher._complementary_dropout(net, 1.0, 1, 1):
        handle = bottom.register_forward_hook(lambda m, i, output: outputs.append(output))
        with torch.no_grad():
            net(images)
        handle.remove()
        with torch.no_grad():
            net(images)
    after = outputs[0][-1] if isinstance(outputs[0], list) else outputs[0]
    axis = 2 if kind == "UNETR" else 1
    zero = (after == 0).all(dim=[n for n in range(1, after.ndim) if n != axis])
    assert not zero[0].any()
    assert torch.equal(zero[1], ~zero[2])
    assert not bottom._forward_hooks


def test_the_teacher_follows_and_is_deployed() -> None:
    objective = method(decay=0.9)
    assert objective.deployed is objective.teacher
    assert objective.label_threshold == 0.5
    for step, decay in ((0, 0.0), (1, 0.5), (500, 0.9)):
        helpers.perturb([objective.network], 0.3)
        old = copy.deepcopy(objective.teacher.state_dict())
        objective.update_teacher(step)
        for name, value in objective.teacher.state_dict().items():
            expected = decay * old[name] + (1 - decay) * objective.network.state_dict()[name]
            assert torch.allclose(value, expected, atol=1e-6), (step, name)
    objective.reset_teacher()
    assert helpers.same(objective.teacher.state_dict(), objective.network.state_dict())
    objective.train()
    assert objective.network.training
    assert not any(module.training for module in objective.teacher.modules())


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    def make() -> StrongViewTeacher:
        torch.manual_seed(0)
        return StrongViewTeacher(network(), cross_entropy, threshold=0.4)

    check_resumes(make, tmp_path)


def test_what_does_not_fit_is_told() -> None:
    data = batch()
    del data["unlabeled"]["strong_b"]
    with pytest.raises(
        UserError, match=r"needs the entry 'strong_b' in the unlabelled stream; it has image, strong\. .*`views`"
    ):
        method()(data)
    checkpointed = CheckpointUNet(3, 1, 2, channels=[4, 8], strides=[2])
    with pytest.raises(UserError, match=r"CheckpointUNet computes its features again .* set the method's dropout to 0"):
        StrongViewTeacher(checkpointed, cross_entropy)
    with pytest.raises(UserError, match="no encoder is known in Conv3d"):
        StrongViewTeacher(nn.Conv3d(1, 2, 1), cross_entropy)
    for fine in ({"dropout": 0.0}, {"strong": "strong"}):
        StrongViewTeacher(nn.Conv3d(1, 2, 1), cross_entropy, **fine)
    for arguments, message in (
        ({"strong": ["a", "b", "c"]}, r"`strong` must name one or two entries, got \['a', 'b', 'c'\]\."),
        ({"threshold": 1.0}, r"`threshold` must be in \[0, 1\), got 1\.0\."),
        ({"decay": 1.0}, r"`decay` must be in \[0, 1\), got 1\.0\."),
        ({"mix_volume": (0.6, 0.1)}, r"`mix_volume` must be two numbers in \[0, 1\], .* got \(0\.6, 0\.1\)\."),
        ({"dropout": 1.5}, r"`dropout` must be in \[0, 1\], got 1\.5\."),
        ({"levels": 0}, r"`levels` must be 1 or more, got 0\."),
    ):
        with pytest.raises(ValueError, match=message):
            StrongViewTeacher(network(), cross_entropy, **arguments)
