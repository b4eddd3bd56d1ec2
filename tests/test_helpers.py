"""Each property battery passes on a sound toy and fails on a broken one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor, nn
from torch.nn import functional as F

from tests import helpers


class Scale(RandomizableTransform):
    """Multiply by a drawn factor."""

    def __call__(self, image: Tensor) -> Tensor:
        self.randomize(None)
        return image * self.R.uniform(1.5, 2.5) if self._do_transform else image


class Scaled(RandomizableTransform, MapTransform):
    """Dictionary form that shares the array object's draws."""

    def __init__(self, keys: Any, prob: float = 1.0) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        self.scale = Scale(prob=prob)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Scaled:
        self.scale.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Any, Tensor]) -> dict[Any, Tensor]:
        self.scale.randomize(None)
        factor = self.scale.R.uniform(1.5, 2.5) if self.scale._do_transform else None
        return {k: v if factor is None or k not in self.keys else v * factor for k, v in data.items()}


class ApartScaled(Scaled):
    def __call__(self, data: Mapping[Any, Tensor]) -> dict[Any, Tensor]:
        return {k: self.scale(v) if k in self.keys else v for k, v in data.items()}


class OwnSeedScaled(Scaled):
    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Scaled:
        return super().set_random_state(seed + 1 if seed is not None else None, state)


IMAGE = torch.rand(1, 4, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.5
META = MetaTensor(IMAGE, affine=torch.eye(4) * 2, meta={"name": "case"})


def test_a_sound_transform_passes() -> None:
    helpers.check_transform(Scale, Scaled, IMAGE)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("nan")]), True),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64), False),
        (torch.zeros(2), torch.zeros(1, 2), False),
        (torch.zeros(2), MetaTensor(torch.zeros(2)), False),
        (META, META.clone(), True),
        (META, MetaTensor(IMAGE, affine=torch.eye(4), meta={"name": "case"}), False),
        ({"a": [1, float("nan")]}, {"a": [1, float("nan")]}, True),
        ({"a": 1}, {"b": 1}, False),
        ((1, 2), (1, 3), False),
        (np.zeros(2), np.zeros(2), True),
        (np.array(["a"]), np.array(["b"]), False),
        (1, 1.0, False),
    ],
)
def test_same(left: Any, right: Any, equal: bool) -> None:
    assert helpers.same(left, right) is equal


def add_in_place(image: Tensor) -> Tensor:
    return image.add_(1)


def rename_in_place(image: MetaTensor) -> MetaTensor:
    image.meta["name"] = "other"
    return image


def drop_name(image: MetaTensor) -> MetaTensor:
    return MetaTensor(image.as_tensor(), affine=image.affine)


def shift_affine(image: MetaTensor) -> MetaTensor:
    shifted = image.clone()
    shifted.affine = image.affine + 1
    return shifted


@pytest.mark.parametrize("broken", [add_in_place, rename_in_place])
def test_a_changed_input_is_told(broken: Callable[[Any], Any]) -> None:
    with pytest.raises(AssertionError, match="changed its input"):
        helpers.check_input_unchanged(broken, META.clone())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda image: image.as_tensor(), "type MetaTensor became Tensor"),
        (lambda image: image.double(), "dtype torch.float32 became torch.float64"),
        (lambda image: image[:, 1:], "shape .* became"),
        (drop_name, "metadata changed or lost: .*'name'"),
        (shift_affine, "the affine changed"),
    ],
)
def test_a_lost_property_is_told(broken: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        helpers.check_kept(broken, META.clone())


def test_an_act_at_probability_zero_is_told() -> None:
    with pytest.raises(AssertionError, match="not the identity"):
        helpers.check_probability_zero_is_identity(lambda prob: lambda image: image + 1e-6, IMAGE)


def test_dictionary_that_parts_from_the_array_is_told() -> None:
    with pytest.raises(AssertionError, match="part at call"):
        helpers.check_array_equals_dictionary(Scale, OwnSeedScaled, IMAGE)


def test_a_probability_that_does_nothing_is_told() -> None:
    with pytest.raises(AssertionError, match="20 of 20 calls"):
        helpers.check_array_equals_dictionary(lambda prob: Scale(), lambda keys, prob: Scaled(keys), IMAGE)


def test_keys_drawn_apart_are_told() -> None:
    with pytest.raises(AssertionError, match="'label' was drawn apart from 'image'"):
        helpers.check_one_draw_serves_all_keys(ApartScaled, IMAGE)


class Loss(nn.Module):
    """A loss made of a function."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return self.function(input, target)


def squared(input: Tensor, target: Tensor) -> Tensor:
    if input.shape != target.shape:
        raise ValueError("shapes")
    return ((input.float() - target.detach().float()) ** 2).mean()


def test_a_sound_loss_passes() -> None:
    helpers.check_loss(squared, Loss(squared), torch.rand(2, 3), torch.rand(2, 3), torch.rand(2, 4))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda i, t: (i - t.detach()) ** 2, "has shape"),
        (lambda i, t: squared(i, t).double(), "torch.float64"),
        (lambda i, t: squared(i, t) / 0, "the loss is inf"),
        (lambda i, t: squared(i.data.add_(1) + 0 * i, t), "changed its input"),
        (lambda i, t: squared(i, t) + 1, "module and function differ"),
        (lambda i, t: ((i.float() - t.float()) ** 2).mean(), "reaches the target"),
        (lambda i, t: squared(i.detach(), t) + 0 * i.sum(), "gradient is zero"),
        (lambda i, t: squared(i.detach(), t) + 0 * t.sum(), "no gradient reaches the input"),
        (lambda i, t: (i @ t.detach().T).mean(), "left float32 under autocast"),
    ],
)
def test_a_broken_loss_is_told(broken: Callable[..., Tensor], message: str) -> None:
    function = squared if "differ" in message else broken
    with pytest.raises(AssertionError, match=message):
        helpers.check_loss(function, Loss(broken), torch.rand(2, 3), torch.rand(2, 3))


def test_a_loss_that_leaves_float32_is_told() -> None:
    def low(input: Tensor, target: Tensor) -> Tensor:
        return ((input - target.detach().to(input.dtype)) ** 2).mean()

    with pytest.raises(AssertionError, match="bfloat16 input"):
        helpers.check_loss(low, Loss(low), torch.rand(2, 3), torch.rand(2, 3))


def test_a_loss_that_takes_any_shape_is_told() -> None:
    def careless(input: Tensor, target: Tensor) -> Tensor:
        return squared(input[:, :1], target[:, :1])

    with pytest.raises(AssertionError, match="not refused"):
        helpers.check_loss(careless, Loss(careless), torch.rand(2, 3), torch.rand(2, 3), torch.rand(2, 4))


def toy_network() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 4, 1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 2, 1))


class Toy(nn.Module):
    """A mean teacher in ten lines."""

    def __init__(self) -> None:
        super().__init__()
        self.network = toy_network()
        self.teacher = copy.deepcopy(self.network).requires_grad_(False)
        self.weights = {"supervised": 1.0, "consistency": 0.1}

    @property
    def deployed(self) -> nn.Module:
        return self.teacher

    def target(self, image: Tensor) -> Tensor:
        with torch.no_grad():
            return self.teacher(image).softmax(1)

    def forward(self, batch: helpers.Batch) -> dict[str, Tensor]:
        labeled, image = batch["labeled"], batch["unlabeled"]["image"]
        return {
            "supervised": F.cross_entropy(self.network(labeled["image"]), labeled["label"][:, 0]),
            "consistency": F.mse_loss(self.network(image).softmax(1), self.target(image)),
        }

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()

    def update_teacher(self, step: int) -> None:
        with torch.no_grad():
            for mine, theirs in zip(
                self.teacher.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                mine.copy_(theirs)


class AttachedTarget(Toy):
    def target(self, image: Tensor) -> Tensor:
        return self.teacher(image).softmax(1)


class CutConsistency(Toy):
    def forward(self, batch: helpers.Batch) -> dict[str, Tensor]:
        terms = super().forward(batch)
        return {**terms, "consistency": terms["consistency"].detach() + 0 * terms["supervised"]}


class ConstantTerm(Toy):
    def forward(self, batch: helpers.Batch) -> dict[str, Tensor]:
        return {**super().forward(batch), "consistency": torch.zeros(())}


class NanTerm(Toy):
    def forward(self, batch: helpers.Batch) -> dict[str, Tensor]:
        terms = super().forward(batch)
        return {**terms, "consistency": terms["consistency"] * float("nan")}


class VectorTerm(Toy):
    def forward(self, batch: helpers.Batch) -> dict[str, Tensor]:
        return {**super().forward(batch), "consistency": torch.zeros(2)}


class MissingTerm(Toy):
    def forward(self, batch: helpers.Batch) -> dict[str, Tensor]:
        return {"supervised": super().forward(batch)["supervised"]}


class ChangedBatch(Toy):
    def forward(self, batch: helpers.Batch) -> dict[str, Tensor]:
        batch["unlabeled"]["image"].add_(1)
        return super().forward(batch)


class ForeignDeployed(Toy):
    @property
    def deployed(self) -> nn.Module:
        return copy.deepcopy(self.network)


class ThawedTeacher(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.teacher.requires_grad_(True)


class SharedBuffers(Toy):
    def update_teacher(self, step: int) -> None:
        self.teacher[1].running_mean = self.network[1].running_mean


class SharedWeights(Toy):
    def update_teacher(self, step: int) -> None:
        self.teacher[0].weight.data = self.network[0].weight.data[:]


class ChangedTeacher(Toy):
    def forward(self, batch: helpers.Batch) -> dict[str, Tensor]:
        helpers.perturb([self.teacher])
        return super().forward(batch)


class NothingLearned(Toy):
    def forward(self, batch: helpers.Batch) -> dict[str, Tensor]:
        terms = super().forward(batch)
        return {name: term + 10 for name, term in terms.items()}


class Pair(nn.Module):
    """Two students, each term meant for one."""

    def __init__(self, crossed: bool) -> None:
        super().__init__()
        self.network, self.other, self.crossed = toy_network(), toy_network(), crossed
        self.weights = {"one": 1.0, "two": 1.0}

    def forward(self, batch: helpers.Batch) -> dict[str, Tensor]:
        image = batch["unlabeled"]["image"]
        one, two = self.network(image), self.other(image)
        pseudo = two if self.crossed else two.detach()
        return {"one": F.mse_loss(one, pseudo), "two": F.cross_entropy(two, one.argmax(1))}


@pytest.fixture
def batch() -> dict[str, dict[str, Tensor]]:
    image = torch.rand(2, 1, 4, 4, 4)
    return {
        "labeled": {"image": image, "label": (image > 0.5).long()},
        "unlabeled": {"image": torch.rand(2, 1, 4, 4, 4)},
    }


def test_a_sound_objective_passes(batch: helpers.Batch) -> None:
    helpers.check_objective(Toy(), batch)
    helpers.check_overfits(Toy(), batch)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (AttachedTarget, "'consistency' sends a gradient to the teacher"),
        (CutConsistency, "'consistency' has a zero gradient"),
        (ConstantTerm, "'consistency' has no gradient at all"),
        (NanTerm, "'consistency' is nan"),
        (VectorTerm, "'consistency' has shape"),
        (MissingTerm, "weights of terms that do not exist: .'consistency'"),
        (ChangedBatch, "changed its batch"),
        (ForeignDeployed, "no part of the objective"),
        (SharedBuffers, "1.running_mean and 1.running_mean"),
        (SharedWeights, "0.weight and 0.weight"),
        (ChangedTeacher, "a training step changed the teacher"),
    ],
)
def test_a_broken_objective_is_told(broken: type[nn.Module], message: str, batch: helpers.Batch) -> None:
    with pytest.raises(AssertionError, match=message):
        helpers.check_objective(broken(), batch)


def test_a_teacher_that_trains_is_told(batch: helpers.Batch) -> None:
    objective = ThawedTeacher()
    with pytest.raises(AssertionError, match="of the teachers' parameters require a gradient"):
        helpers.check_term_gradients(objective, batch, teachers=[objective.teacher])


def test_a_term_that_strays_is_told(batch: helpers.Batch) -> None:
    helpers.check_term_gradients(Pair(crossed=False), batch, reaches={"one": "network", "two": "other"})
    with pytest.raises(AssertionError, match=r"'one' reaches another network: .'other"):
        helpers.check_term_gradients(Pair(crossed=True), batch, reaches={"one": "network"})
    with pytest.raises(AssertionError, match="'one' does not reach"):
        helpers.check_term_gradients(Pair(crossed=False), batch, reaches={"one": "other"})


def test_an_objective_that_does_not_learn_is_told(batch: helpers.Batch) -> None:
    with pytest.raises(AssertionError, match="5 steps brought"):
        helpers.check_overfits(NothingLearned(), batch, steps=5)


def test_overfitting_can_be_measured_on_the_deployed_network(batch: helpers.Batch) -> None:
    label = batch["labeled"]["label"]

    def error(network: nn.Module) -> float:
        predicted = network(batch["labeled"]["image"]).argmax(1, keepdim=True)
        return float((predicted != label).float().mean())

    helpers.check_overfits(Toy(), batch, steps=200, measure=error, ratio=0.25)


def test_frozen_finds_the_teacher_alone() -> None:
    objective = Toy()
    assert helpers.frozen(objective) == [objective.teacher]
