from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from monai_ssl.networks.heads import ClassificationHead, NetworkOutput, ProjectionHead
from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.objectives.base import Task
from monai_ssl.objectives.multitask import Multitask
from monai_ssl.objectives.reconstruction import Reconstruction
from monai_ssl.objectives.transform_class import TransformClass
from monai_ssl.objectives.view_invariance import ContrastiveViews
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives.pretext import images, network

SHAPES = [(8, 4, 4, 4)]


def three_tasks() -> Multitask:
    heads = {
        "output": NetworkOutput(1),
        "rotation": ClassificationHead(SHAPES, 4),
        "projection": ProjectionHead(SHAPES, 8),
    }
    tasks = [
        Reconstruction("masked", head="output", over="all", mask=None, kind="l1"),
        TransformClass("rotation", "masked"),
        ContrastiveViews("masked"),
    ]
    return Multitask(network(**heads), tasks)


@pytest.fixture
def batch() -> dict[str, dict[str, Tensor]]:
    clean = images(4)
    masked = clean.clone()
    masked[:, :, 2:4] = 0
    return {"unlabeled": {"image": clean, "masked": masked, "rotation": torch.tensor([0, 1, 2, 3])}}


def test_battery(batch: dict[str, dict[str, Tensor]]) -> None:
    helpers.check_objective(three_tasks(), batch)


def test_the_terms_are_those_of_the_tasks_alone(batch: dict[str, dict[str, Tensor]]) -> None:
    together = three_tasks().eval()
    terms = together(batch)
    assert set(terms) == {"reconstruction", "rotation", "contrast"}
    for task in together.tasks:
        alone = Multitask(together.network, [task]).eval()
        for name, term in alone(batch).items():
            assert torch.allclose(term, terms[name], atol=1e-6)
    assert set(together.figures) == {"rotation_accuracy", "rotation_chance", "contrast_accuracy"}


def test_one_pass_of_the_network_serves_the_tasks_that_look_at_the_same_images(batch: dict) -> None:
    objective, calls = three_tasks(), []
    objective.deployed.model[0].register_forward_hook(lambda *_: calls.append(1))
    objective(batch)
    assert len(calls) == 1
    objective.tasks[1].image = "image"
    objective(batch)
    assert len(calls) == 3


def test_views_go_through_the_network_as_cases(batch: dict[str, dict[str, Tensor]]) -> None:
    heads = {"projection": ProjectionHead(SHAPES, 8)}
    objective = Multitask(network(**heads), [ContrastiveViews("views")]).eval()
    views = images(2, 3)
    objective.tasks[0].views = 3
    stacked = objective({"unlabeled": {"views": views}})["contrast"]
    assert torch.equal(stacked, objective({"unlabeled": {"views": views.flatten(0, 1)}})["contrast"])


def test_the_bare_network_is_deployed() -> None:
    objective = three_tasks()
    assert objective.deployed is objective.network.network
    assert not [name for name in objective.state_dict() if name.startswith("tasks")]


class Followed(Task):
    """Writes down what it is told about its teacher."""

    def __init__(self) -> None:
        super().__init__("image", ["output"])
        self.told: list[tuple[object, ...]] = []

    def make_teacher(self, network: PretextNetwork) -> None:
        self.told.append(("make", network))

    def reset_teacher(self, network: PretextNetwork) -> None:
        self.told.append(("reset", network))

    def update_teacher(self, network: PretextNetwork, step: int) -> None:
        self.told.append(("update", network, step))


def test_every_task_with_a_teacher_is_told_when_it_follows_the_network() -> None:
    tasks = [Followed(), Reconstruction(head="output"), Followed()]
    objective = Multitask(network(), tasks)
    before = copy.deepcopy(objective.state_dict())
    objective.reset_teacher()
    objective.update_teacher(7)
    expected = [("make", objective.network), ("reset", objective.network), ("update", objective.network, 7)]
    assert tasks[0].told == tasks[2].told == expected
    assert helpers.same(objective.state_dict(), before)


def test_overfits(batch: dict[str, dict[str, Tensor]]) -> None:
    helpers.check_overfits(three_tasks(), batch, steps=60, ratio=0.6)


class Twice(Task):
    def forward(self, outputs: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"same": outputs["output"].mean()}


def test_what_does_not_fit_is_told(batch: dict[str, dict[str, Tensor]]) -> None:
    with pytest.raises(ValueError, match=r"`tasks` must be one task at least.*got none"):
        Multitask(network(), [])
    with pytest.raises(ValueError, match="'rotation' is no head; there are output"):
        Multitask(network(), [TransformClass()])
    with pytest.raises(ValueError, match="two tasks have a term 'same'"):
        Multitask(network(), [Twice("image", ["output"]), Twice("image", ["output"])])(batch)
    with pytest.raises(UserError, match="needs unlabeled cases"):
        three_tasks()({})
    with pytest.raises(UserError, match="needs the entry 'masked' in the unlabelled stream; it has image"):
        three_tasks()({"unlabeled": {"image": images(2)}})
