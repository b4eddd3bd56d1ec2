from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from monai_ssl.networks.heads import ClassificationHead, NetworkOutput
from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.objectives.multitask import Multitask
from monai_ssl.objectives.transform_class import TransformClass
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives.pretext import images, network

SHAPES = [(8, 4, 4, 4)]


def rotations() -> dict[str, dict[str, torch.Tensor]]:
    image = images(1)
    turned = torch.cat([torch.rot90(image, turns, (3, 4)) for turns in range(4)])
    return {"unlabeled": {"image": turned, "rotation": torch.arange(4)}}


def test_battery_and_cross_entropy_by_hand() -> None:
    objective = Multitask(network(rotation=ClassificationHead(SHAPES, 4)), [TransformClass()])
    helpers.check_objective(objective, rotations())
    batch = rotations()
    logits = objective.network(batch["unlabeled"]["image"])["rotation"].double().tolist()
    by_hand = [math.log(sum(map(math.exp, row))) - row[number] for number, row in enumerate(logits)]
    assert objective(batch)["rotation"].item() == pytest.approx(sum(by_hand) / 4, rel=1e-5)
    right = sum(row[number] == max(row) for number, row in enumerate(logits)) / 4
    assert objective.figures["rotation_accuracy"].item() == right
    assert objective.figures["rotation_chance"].item() == 0.25


def test_tiles_are_one_case() -> None:
    """Three tiles of a case make one class."""
    head = ClassificationHead(SHAPES, 5, tiles=3)
    objective = Multitask(network(permutation=head), [TransformClass("permutation", "tiles")])
    batch = {"unlabeled": {"tiles": images(2, 3), "permutation": torch.tensor([1, 4])}}
    helpers.check_objective(objective, batch)
    assert objective.network(batch["unlabeled"]["tiles"].flatten(0, 1))["permutation"].shape == (2, 5)


def test_a_class_for_every_voxel() -> None:
    bare = nn.Conv3d(1, 3, 1)
    bare.encoder_taps = lambda: None  # type: ignore[assignment]
    target = torch.randint(0, 3, (4, 1, 8, 8, 8), generator=torch.Generator().manual_seed(0))
    objective = Multitask(
        PretextNetwork(bare, {"blend": Voxels()}), [TransformClass("blend", target="alpha", head="blend")]
    )
    objective.network.forward = lambda images, heads=None: {"blend": bare(images)}  # type: ignore[assignment]
    term = objective({"unlabeled": {"image": images(4), "alpha": target}})["blend"]
    commonest = max((target == number).float().mean().item() for number in range(3))
    assert objective.figures["blend_chance"].item() == pytest.approx(commonest)
    chosen = torch.log_softmax(bare(images(4)), 1).gather(1, target)
    assert term.item() == pytest.approx(-chosen.mean().item(), rel=1e-5)


class Voxels(NetworkOutput):
    def __init__(self) -> None:
        super().__init__(3)


def test_overfits() -> None:
    objective = Multitask(network(rotation=ClassificationHead(SHAPES, 4)), [TransformClass()])
    helpers.check_overfits(objective, rotations(), steps=60, ratio=0.5)
    assert objective.figures["rotation_accuracy"] == 1.0


def test_a_missing_class_is_told() -> None:
    objective = Multitask(network(rotation=ClassificationHead(SHAPES, 4)), [TransformClass()])
    with pytest.raises(UserError, match="needs the entry 'rotation'"):
        objective({"unlabeled": {"image": images(2)}})
