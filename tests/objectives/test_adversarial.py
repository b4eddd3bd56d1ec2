from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import UNet
from torch import Tensor, distributed, nn

from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.handlers.checkpoint import CheckpointWriter, Resume
from monai_ssl.networks.encoder import EncoderTaps, encoder_keys
from monai_ssl.networks.heads import ProjectionHead
from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.objectives.adversarial import Adversarial
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives.pretext import images, network

SHAPES = [(8, 4, 4, 4)]
REACHES = {"discrimination": "network", "deception": "generator", "restoration": "generator"}
Batch = dict[str, dict[str, Tensor]]


def method(**settings: Any) -> Adversarial:
    torch.manual_seed(0)
    discriminator = network(real=ProjectionHead(SHAPES, 1))
    return Adversarial(discriminator, UNet(3, 1, 1, channels=[4, 8], strides=[2]), **settings)


def hidden(clean: Tensor) -> Batch:
    mask = torch.zeros(clean.shape, dtype=torch.bool)
    mask[:, :, 2:6, 1:5] = True
    return {"unlabeled": {"image": clean, "masked": clean.masked_fill(mask, 0), "mask": mask}}


@pytest.fixture
def batch() -> Batch:
    return hidden(images(3))


def test_battery(batch: Batch) -> None:
    helpers.check_objective(method(), batch, reaches=REACHES)
    assert not helpers.frozen(method())


@pytest.mark.parametrize("term", REACHES)
def test_a_term_moves_its_own_player_and_leaves_the_other_as_it_was(term: str, batch: Batch) -> None:
    objective = method()
    players = {"network": objective.network, "generator": objective.generator}
    before = copy.deepcopy({name: player.state_dict() for name, player in players.items()})
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    objective(batch)[term].backward()
    optimizer.step()
    for name, player in players.items():
        assert helpers.same(player.state_dict(), before[name]) == (name != REACHES[term])
        grads = [p.grad for p in player.parameters() if p.grad is not None]
        assert any(bool(grad.any()) for grad in grads) == (name == REACHES[term])


def test_one_backward_pass_gives_each_player_the_gradient_of_its_own_game(batch: Batch) -> None:
    """The two steps of a usual implementation, written with frozen parameters, against one pass of ours."""
    objective = method(noise=0.0, weights={"deception": 0.3})
    objective.total(objective(batch)).backward()
    f, g = copy.deepcopy(objective.network), copy.deepcopy(objective.generator)
    f.zero_grad()
    g.zero_grad()
    x, x_m, m = (batch["unlabeled"][name] for name in ("image", "masked", "mask"))
    target = {"real": torch.ones(3, 1), "fake": torch.zeros(3, 1)}
    criterion = nn.functional.binary_cross_entropy_with_logits

    with torch.no_grad():
        restored = x * ~m + g(x_m) * m
    both = [criterion(f(images)["real"], target[name]) for name, images in (("real", x), ("fake", restored))]
    (0.5 * both[0] + 0.5 * both[1]).backward()
    for mine, theirs in zip(objective.network.parameters(), f.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        assert mine.grad is None or torch.allclose(mine.grad, theirs.grad, atol=1e-6)

    f.requires_grad_(False)
    restored = x * ~m + g(x_m) * m
    restoration = (restored - x).abs().sum() / m.sum()
    (0.3 * criterion(f(restored)["real"], target["real"]) + restoration).backward()
    for mine, theirs in zip(objective.generator.parameters(), g.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-6)


class Answer(nn.Module):
    """A head that answers the mean of the deepest map, times a number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.scale * features[-1].flatten(1).mean(1, keepdim=True)


class Sums(nn.Module):
    """A network whose only feature is the sum of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = nn.Flatten()

    def encoder_taps(self) -> EncoderTaps:
        return EncoderTaps([self.sum])

    def forward(self, image: Tensor) -> Tensor:
        return self.sum(image)


class Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, image: Tensor) -> Tensor:
        return self.value.expand(image.shape)


def test_terms_and_accuracies_by_hand() -> None:
    """Images of ones, half of them hidden and restored as -3: the discriminator sees means of 1 and of -1."""
    objective = Adversarial(PretextNetwork(Sums(), {"real": Answer()}), Constant(-3.0), noise=0.0)
    clean = torch.ones(2, 1, 4, 4, 4)
    mask = torch.zeros(clean.shape, dtype=torch.bool)
    mask[:, :, :2] = True
    terms = objective({"unlabeled": {"image": clean, "masked": clean * 0, "mask": mask}})
    assert terms["discrimination"].item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert terms["deception"].item() == pytest.approx(math.log(1 + math.exp(1)))
    assert terms["restoration"].item() == pytest.approx(4)
    assert {name: value.item() for name, value in objective.figures.items()} == {
        "real_accuracy": 1.0,
        "fake_accuracy": 1.0,
    }
    with torch.no_grad():
        objective.network.heads["real"].scale.fill_(-1)
    objective({"unlabeled": {"image": clean, "masked": clean * 0, "mask": mask}})
    assert [value.item() for value in objective.figures.values()] == [0, 0]


def test_what_is_not_hidden_stays_real(batch: Batch) -> None:
    """With an empty mask the restored image is the real one, whatever the generator makes."""
    objective = method(noise=0.0)
    batch["unlabeled"]["mask"] = torch.zeros_like(batch["unlabeled"]["mask"])
    terms = objective(batch)
    logits = objective.network(batch["unlabeled"]["image"])["real"]
    assert torch.allclose(terms["deception"], nn.functional.softplus(-logits).mean())
    assert terms["restoration"] == 0


def test_the_noise_is_on_what_the_discriminator_sees_alone(batch: Batch) -> None:
    objective, seen = method(noise=0.5), []
    objective.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    objective(batch)
    assert len(seen) == 3
    noise = seen[0] - batch["unlabeled"]["image"]
    assert noise.std().item() == pytest.approx(0.5, rel=0.1)
    assert noise.mean().item() == pytest.approx(0, abs=0.05)
    assert not torch.equal(seen[1], seen[2])
    quiet = method(noise=0.0)
    helpers.check_terms(quiet, batch)
    assert torch.equal(quiet(batch)["restoration"], objective(batch)["restoration"])


def test_distributed_training_gives_the_same_gradients(batch: Batch) -> None:
    plain, wrapped = method(noise=0.0), method(noise=0.0)
    plain.total(plain(batch)).backward()
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(wrapped, find_unused_parameters=True)
        wrapped.total(parallel(batch)).backward()
    finally:
        distributed.destroy_process_group()
    gradients = [[p.grad for p in one.parameters() if p.grad is not None] for one in (plain, wrapped)]
    assert len(gradients[0]) == len(gradients[1]) > 0
    assert all(torch.allclose(mine, theirs, atol=1e-6) for mine, theirs in zip(*gradients, strict=True))


def test_the_generator_overfits(batch: Batch) -> None:
    objective = method()
    helpers.check_overfits(
        objective, batch, steps=60, measure=lambda _: objective(batch)["restoration"].item(), ratio=0.6
    )


def test_the_discriminator_overfits_where_the_generator_stands_still(batch: Batch) -> None:
    objective = method()
    objective.generator.requires_grad_(False)
    objective.weights.update(deception=0.0, restoration=0.0)
    helpers.check_overfits(objective, batch, steps=60, ratio=0.6)
    assert [value.item() for value in objective.figures.values()] == [1, 1]


def test_the_discriminators_encoder_is_deployed() -> None:
    objective = method()
    assert objective.deployed is objective.network.network
    assert (
        set(objective.deployed_state()) == set(encoder_keys(objective.deployed)) < set(objective.deployed.state_dict())
    )
    assert {name.split(".")[0] for name in objective.state_dict()} == {"network", "generator"}


def test_the_weight_of_the_deception() -> None:
    assert method().weights == {"deception": 0.1}
    assert method(weights={"restoration": 2.0}).weights == {"deception": 0.1, "restoration": 2.0}
    assert method(weights={"deception": 1.0}).weights == {"deception": 1.0}


class Stream:
    """What step n holds is a function of n."""

    def __init__(self) -> None:
        self.first = 0

    def start_at(self, step: int) -> None:
        self.first = step

    def __iter__(self) -> Iterator[Batch]:
        for step in itertools.count(self.first):
            yield hidden(images(2).roll(step, 3))


def train(folder: Path, steps: int, resume: bool = False) -> SSLTrainer:
    objective, path = method(), folder / "resume.pt"
    engine = SSLTrainer(
        device="cpu",
        max_epochs=steps // 2,
        epoch_length=2,
        data_loader=Stream(),
        objective=objective,
        optimizer=torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=0.01),
        handlers=[Resume(path, {}, resume), CheckpointWriter(path, {}, 2)],
    )
    engine.run()
    return engine


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = train(tmp_path / "whole", 6)
    train(tmp_path, 2)
    state = torch.load(tmp_path / "resume.pt", weights_only=True)
    torch.save({**state, "max_epochs": 3}, tmp_path / "resume.pt")
    resumed = train(tmp_path, 6, resume=True)
    assert resumed.state.iteration == whole.state.iteration == 6
    assert helpers.same(resumed.objective.state_dict(), whole.objective.state_dict())
    assert helpers.same(resumed.optimizer.state_dict(), whole.optimizer.state_dict())
    assert torch.equal(resumed.state.output["loss"], whole.state.output["loss"])


def test_what_does_not_fit_is_told(batch: Batch) -> None:
    with pytest.raises(ValueError, match=r"`noise` must be 0 or more, got -0\.1"):
        method(noise=-0.1)
    with pytest.raises(ValueError, match="`head` must be one of the network's, real, got 'fake'"):
        method(head="fake")
    discriminator = network(real=ProjectionHead(SHAPES, 1))
    with pytest.raises(ValueError, match="`generator` must be a network of its own"):
        Adversarial(discriminator, nn.Sequential(discriminator.network))
    with pytest.raises(UserError, match="needs unlabeled cases"):
        method()({})
    with pytest.raises(UserError, match="needs the entry 'mask' in the unlabelled stream; it has image, masked"):
        method()({"unlabeled": {"image": images(2), "masked": images(2)}})
    with pytest.raises(UserError, match=r"must answer with an image \(3, 1, 8, 8, 8\), got \(3, 2, 8, 8, 8\)\. Take a"):
        Adversarial(discriminator, UNet(3, 1, 2, channels=[4, 8], strides=[2]))(batch)
