from __future__ import annotations

from typing import Any

import pytest
import torch

from monai_ssl.objectives.multitask import Multitask
from monai_ssl.objectives.reconstruction import Reconstruction
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives.pretext import images, network


def batch() -> dict[str, dict[str, torch.Tensor]]:
    clean = images(3)
    mask = torch.zeros_like(clean, dtype=torch.bool)
    mask[:, :, 1:4, :, 2:] = True
    return {"unlabeled": {"image": clean, "masked": clean.masked_fill(mask, 0.0), "mask": mask}}


@pytest.mark.parametrize("kind", ["l1", "mse"])
@pytest.mark.parametrize("over", ["masked", "all"])
def test_battery_and_the_mean_over_voxels(kind: Any, over: Any) -> None:
    objective = Multitask(network(), [Reconstruction(kind=kind, over=over, head="output")])
    helpers.check_objective(objective, batch())
    entries = batch()["unlabeled"]
    restored = objective.network(entries["masked"])["output"]
    voxels = (restored - entries["image"]).double()
    voxels = voxels[entries["mask"]] if over == "masked" else voxels.flatten()
    expected = voxels.abs().mean() if kind == "l1" else voxels.square().mean()
    assert objective(batch())["reconstruction"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_voxels_that_were_not_hidden_teach_nothing() -> None:
    objective = Multitask(network(), [Reconstruction(head="output")])
    changed = batch()
    changed["unlabeled"]["image"] = changed["unlabeled"]["image"] + 5.0 * ~changed["unlabeled"]["mask"]
    assert torch.equal(objective(batch())["reconstruction"], objective(changed)["reconstruction"])


def test_without_a_mask_there_is_nothing_to_restore() -> None:
    objective = Multitask(network(), [Reconstruction(head="output")])
    entries = batch()["unlabeled"]
    with pytest.raises(UserError, match="needs the entry 'mask'"):
        objective({"unlabeled": {"image": entries["image"], "masked": entries["masked"]}})
    plain = Multitask(network(), [Reconstruction("image", mask=None, over="all", head="output", name="copy")])
    assert list(plain({"unlabeled": {"image": entries["image"]}})) == ["copy"]


def test_overfits() -> None:
    objective = Multitask(network(), [Reconstruction(head="output")])
    helpers.check_overfits(objective, batch(), steps=60, ratio=0.5)
