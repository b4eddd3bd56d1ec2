"""What the tests of methods that mix labelled and unlabelled cases share: a network, a batch, a loss in plain loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.handlers.checkpoint import CheckpointWriter, Resume
from monai_ssl.handlers.teacher import TeacherUpdate
from monai_ssl.objectives.base import Objective
from tests import helpers

Batch = dict[str, dict[str, Tensor]]
SHAPE = (4, 6, 4)


def network(classes: int = 3) -> nn.Module:
    """Logits that are neither sure nor flat; deepest map of 8 channels at half the size."""
    bare = UNet(3, 1, classes, channels=[4, 8], strides=[2], norm=("instance", {"affine": True}))
    with torch.no_grad():
        for module in bare.modules():
            if isinstance(module, nn.InstanceNorm3d):
                module.weight.mul_(2)
    return bare


def batch(labeled: int = 2, unlabeled: int = 2, classes: int = 3, shape: tuple[int, ...] = SHAPE) -> Batch:
    """Cases whose intensities tell the class, with strong views of the unlabelled ones."""
    label = torch.randint(classes, (labeled + unlabeled, 1, *shape))
    image = label + 0.3 * torch.randn(label.shape)
    weak = image[labeled:]
    strong = {name: weak * 1.5 + 0.2 * torch.randn(weak.shape) for name in ("strong", "strong_b")}
    return {"labeled": {"image": image[:labeled], "label": label[:labeled]}, "unlabeled": {"image": weak, **strong}}


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, label.squeeze(1).long())


def voxels(image: Tensor) -> Iterator[tuple[int, ...]]:
    return itertools.product(range(len(image)), *(range(length) for length in image.shape[2:]))


def dice_ce_by_hand(logits: Tensor, label: Tensor, mask: Tensor) -> float:
    """Half mean cross-entropy, half Dice of the foreground classes over the batch, within a mask, voxel by voxel."""
    classes = logits.shape[1]
    entropy, count = 0.0, 0
    common, sizes = [1e-5] * classes, [1e-5] * classes
    for b, *at in voxels(label):
        if bool(mask[(b, 0, *at)]):
            powers = [math.exp(logit) for logit in logits[(b, slice(None), *at)].tolist()]
            p, true = [power / sum(powers) for power in powers], int(label[(b, 0, *at)])
            entropy, count = entropy - math.log(p[true]), count + 1
            for c in range(classes):
                common[c] += 2 * p[c] * (c == true)
                sizes[c] += p[c] + (c == true)
    dice = sum(1 - common[c] / sizes[c] for c in range(1, classes)) / (classes - 1)
    return (entropy / count + dice) / 2


class Stream:
    """Endless batches; what step n holds is a function of n."""

    def __init__(self) -> None:
        self.first = 0

    def start_at(self, step: int) -> None:
        self.first = step

    def __iter__(self) -> Iterator[Batch]:
        for step in itertools.count(self.first):
            with torch.random.fork_rng():
                torch.manual_seed(step)
                made = batch()
            yield made


def _train(make: Callable[[], Objective], folder: Path, steps: int, resume: bool = False) -> SSLTrainer:
    objective, path = make(), folder / "resume.pt"
    engine = SSLTrainer(
        device="cpu",
        max_epochs=4,
        epoch_length=2,
        data_loader=Stream(),
        objective=objective,
        optimizer=torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=0.01),
        handlers=[Resume(path, {}, resume), TeacherUpdate(), CheckpointWriter(path, {}, 2)],
    )
    engine.state.max_epochs = steps // 2
    engine.run()
    return engine


def check_resumes(make: Callable[[], Objective], folder: Path) -> None:
    """A run of eight steps that is stopped after four ends bit for bit where an uninterrupted one does."""
    (folder / "whole").mkdir()
    whole = _train(make, folder / "whole", 8)
    _train(make, folder, 4)
    state = torch.load(folder / "resume.pt", weights_only=True)
    torch.save({**state, "max_epochs": 4}, folder / "resume.pt")
    resumed = _train(make, folder, 8, resume=True)
    assert resumed.state.iteration == whole.state.iteration == 8
    assert helpers.same(resumed.objective.state_dict(), whole.objective.state_dict())
    assert helpers.same(resumed.optimizer.state_dict(), whole.optimizer.state_dict())
