"""Seconds a step of ``SSLTrainer`` with ``MeanTeacher`` over a bare PyTorch loop that does the same passes.

    python benchmarks/step_overhead.py --steps 60 --rounds 5 --output step_overhead.json

Both sides get the same batches, already in memory, the same network, optimiser and teacher update. The trainer carries
the handlers that a real run has at every step (teacher, weights, learning rate, guard, steps.csv). The two take turns
within one process, so that a slow moment of the machine hits both; what counts is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from monai_ssl.engines import SSLTrainer
from monai_ssl.handlers import NonFiniteGuard, ScheduledLearningRate, ScheduledWeights, StepLog, TeacherUpdate
from monai_ssl.objectives import MeanTeacher
from monai_ssl.utils.schedules import constant, ramp_up

Batch = dict[str, dict[str, Tensor]]


class Batches:
    """The same batch for ever, as the trainer wants it."""

    def __init__(self, patch: int) -> None:
        label = torch.zeros(2, 1, patch, patch, patch)
        label[..., : patch // 2] = 1
        image = torch.randn(2, 1, patch, patch, patch)
        self.batch: Batch = {
            "labeled": {"image": image, "label": label},
            "unlabeled": {"image": torch.randn_like(image)},
        }

    def start_at(self, step: int) -> None:
        """The batches do not depend on the step."""

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.batch


def network() -> nn.Module:
    """The bundle's U-Net, two classes."""
    torch.manual_seed(0)
    return UNet(3, 1, 2, (16, 32, 64, 128), (2, 2, 2), num_res_units=1, norm="INSTANCE", dropout=0.1)


def loss_function() -> nn.Module:
    """The bundle's supervised loss."""
    return DiceCELoss(
        softmax=True, to_onehot_y=True, include_background=False, batch=True, lambda_dice=0.5, lambda_ce=0.5
    )


def bare_loop(batch: Batch, steps: int) -> Callable[[], None]:
    """The passes of a mean-teacher step and nothing else."""
    student, teacher, loss = network(), network(), loss_function()
    teacher.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    mine = [*teacher.parameters(), *teacher.buffers()]
    theirs = [*student.parameters(), *student.buffers()]

    def run() -> None:
        student.train()
        for step in range(steps):
            labeled, unlabeled = batch["labeled"], batch["unlabeled"]["image"]
            optimizer.zero_grad(set_to_none=True)
            logits = student(torch.cat([labeled["image"], unlabeled]))
            with torch.no_grad():
                noisy = unlabeled + (torch.randn_like(unlabeled) * 0.1).clamp_(-0.2, 0.2)
                target = torch.softmax(teacher(noisy), dim=1)
            supervised = loss(logits[:2], labeled["label"])
            consistency = ((torch.softmax(logits[2:], dim=1) - target) ** 2).mean()
            (supervised + 0.1 * math.exp(-5 * (1 - step / steps) ** 2) * consistency).backward()
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(mine, theirs, 1 / min(step + 1, 100))

    return run


def trainer_loop(batches: Batches, steps: int, folder: Path) -> Callable[[], None]:
    """The same through ``SSLTrainer`` with the handlers of a real run."""

    def run() -> None:
        student = network()
        objective = MeanTeacher(student, loss_function())
        trainer = SSLTrainer(
            device="cpu",
            max_epochs=1,
            epoch_length=steps,
            data_loader=batches,
            objective=objective,
            optimizer=torch.optim.AdamW(student.parameters(), lr=1e-3),
            handlers=[
                TeacherUpdate(),
                ScheduledWeights({"consistency": lambda step: ramp_up(step, length=steps, maximum=0.1)}),
                ScheduledLearningRate(lambda step: constant(step, value=1.0)),
                NonFiniteGuard(),
                StepLog(folder / "steps.csv"),
            ],
        )
        trainer.run()

    return run


def seconds(run: Callable[[], None], steps: int) -> float:
    """Seconds a step."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) / steps


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="steps a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--patch", type=int, default=48, help="voxels a side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    batches = Batches(options.patch)
    with tempfile.TemporaryDirectory() as folder:
        bare = bare_loop(batches.batch, options.steps)
        trainer = trainer_loop(batches, options.steps, Path(folder))
        pairs = [(seconds(bare, options.steps), seconds(trainer, options.steps)) for _ in range(options.rounds + 1)][1:]
    ratios = [ours / theirs for theirs, ours in pairs]
    result = {
        "patch": options.patch,
        "steps": options.steps,
        "rounds": options.rounds,
        "bare_seconds": statistics.median(bare for bare, _ in pairs),
        "trainer_seconds": statistics.median(ours for _, ours in pairs),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }
    table = Table("loop", "seconds a step (median)", title=f"mean teacher, {options.patch}^3, 2 + 2 patches")
    table.add_row("bare PyTorch", f"{result['bare_seconds']:.4f}")
    table.add_row("SSLTrainer", f"{result['trainer_seconds']:.4f}")
    table.add_row("ratio", f"{result['ratio']:.4f} (rounds {min(ratios):.3f} to {max(ratios):.3f})")
    Console().print(table)
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
