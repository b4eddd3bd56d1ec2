"""Seconds and memory of a training step of every method of the bundle semi_segmentation, beside its network passes.

    python benchmarks/semi_step.py --rounds 9 --json semi_step.json
    python benchmarks/semi_step.py --methods fixmatch --check fixmatch

What a method should cost follows from its passes. In a real step it is counted how many patches go through which
network, with gradient or without. A patch with gradient is 3 units (forward 1, backward 2), one without is 1; those of
a network that is not the supervised one's twin weigh as its forward pass does beside that one's, measured here. The
expected ratio is the method's units over the supervised step's, and "over passes" the measured ratio over the expected
one: what a method adds in losses, views, mixing and copies.

Trainer, objective, networks, views and optimiser are built as the bundle builds them, from train.yaml and the method's
file, in the middle of a run; data and handlers that only watch are left out. Every method has a process of its own.
There its memory is measured first: on a CPU the growth of the process's peak over what it had before the first step,
plus the weights; on a GPU torch's allocated peak. Then its rounds of steps alternate with the supervised method's, so
that a slow moment hits both. On a CPU with one thread a step's seconds are the process's own, so that other processes
hardly count. The row of the supervised method is measured against itself: it shows the noise.

As in a run of the bundle, a CPU's C library keeps freed memory (:func:`monai_ssl.utils.allocator.keep_freed_memory`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from monai_ssl.engines import SSLTrainer
from monai_ssl.objectives.base import Objective
from monai_ssl.utils.allocator import keep_freed_memory
from monai_ssl.utils.bundle_files import bundle_path
from monai_ssl.utils.seeding import seed_torch

CONFIGS = bundle_path("semi_segmentation") / "configs"
METHODS = sorted(path.stem for path in (CONFIGS / "methods").glob("*.yaml"))
SUPERVISED, DEFAULT = "supervised", "default"
KEPT = ("TeacherUpdate", "ScheduledWeights")  # the handlers without which a step would compute something else
RUN = 1_000_000  # steps; far more than are measured, so that all are in the middle of the run
LIMIT = 1.10


@dataclass(frozen=True)
class Settings:
    """What is measured; travels to the process of a method."""

    patch: tuple[int, ...]
    device: str
    threads: int
    rounds: int
    steps: int
    amp: bool = False
    channels_last: bool = False


@dataclass(frozen=True)
class Pass:
    """A batch that went through a network, and how."""

    network: nn.Module
    inputs: tuple[Tensor, ...]
    gradient: bool
    autocast: bool = False

    @property
    def patches(self) -> int:
        """Number of cases in the batch."""
        return len(self.inputs[0])


def merged(*methods: str) -> dict[str, Any]:
    """The bundle's settings with those of a method over them."""
    files = [CONFIGS / "train.yaml", *(CONFIGS / "methods" / f"{method}.yaml" for method in methods)]
    return dict(ConfigParser.load_config_files([str(file) for file in files]))


def default_method() -> str:
    """The method that train.yaml holds: merged over it, its file changes nothing."""
    default = merged()
    return next(method for method in METHODS if merged(method) == default)


def batch_of(labeled: int, unlabeled: int, patch: Sequence[int]) -> dict[str, dict[str, Tensor]]:
    """Noise of zero mean and unit deviation, as normalised scans have it, and a label of one block."""
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros(labeled, 1, *patch)
    label[..., : patch[-1] // 3] = 1
    batch = {"labeled": {"image": torch.randn(labeled, 1, *patch, generator=generator), "label": label}}
    if unlabeled:
        batch["unlabeled"] = {"image": torch.randn(unlabeled, 1, *patch, generator=generator)}
    return batch


def build(method: str, settings: Settings) -> SSLTrainer:
    """The bundle's trainer with one batch for ever; a call of ``run`` makes as many steps as a round has."""
    config = merged(method)
    patch = list(settings.patch)
    config |= {"device": settings.device, "patch_size": patch, "amp": settings.amp, "max_steps": RUN}
    train = config["train"]
    batch = batch_of(config["labeled_batch_size"], config["unlabeled_batch_size"], patch)
    train["dataloader"] = itertools.repeat(batch)
    train["handlers"] = [each for each in train["handlers"] if each["_target_"].rpartition(".")[2] in KEPT]
    if settings.channels_last:
        train["trainer"]["to_kwargs"] = {"memory_format": torch.channels_last_3d}
    seed_torch(0, "initialisation")
    trainer: SSLTrainer = ConfigParser(config).get_parsed_content("train#trainer")
    if settings.channels_last:
        objective: Any = trainer.objective
        objective.to(memory_format=torch.channels_last_3d)
    trainer.state.iteration = RUN // 2
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=settings.steps), lambda engine: engine.terminate())
    return trainer


def networks(objective: Objective) -> Iterator[nn.Module]:
    """The networks that an objective calls: its children that have weights, those of a list one by one."""
    for child in objective.children():
        for network in child if isinstance(child, nn.ModuleList) else [child]:
            if next(network.parameters(), None) is not None:
                yield network


def count_passes(trainer: SSLTrainer) -> list[Pass]:
    """What goes through the networks in a round of steps."""
    passes: list[Pass] = []

    def note(network: nn.Module, inputs: Sequence[Tensor], output: Any) -> None:
        learns = torch.is_grad_enabled() and any(weight.requires_grad for weight in network.parameters())
        autocast = torch.is_autocast_enabled(inputs[0].device.type)
        passes.append(Pass(network, tuple(each.detach() for each in inputs), learns, autocast))

    hooks = [network.register_forward_hook(note) for network in networks(trainer.objective)]
    trainer.run()
    for hook in hooks:
        hook.remove()
    return passes


def units(passes: Sequence[Pass], weights: Mapping[str, float]) -> float:
    """Cost of passes, in forward passes of one patch through the supervised network."""
    return sum(weights[repr(each.network)] * each.patches * (3 if each.gradient else 1) for each in passes)


def clock(settings: Settings) -> Callable[[], float]:
    """Seconds of the process where it is one thread of a CPU, else of the wall, when the device has finished."""
    if settings.device == "cpu":
        return time.process_time if settings.threads == 1 else time.perf_counter

    def finished() -> float:
        torch.cuda.synchronize(settings.device)
        return time.perf_counter()

    return finished


def in_turn(calls: Mapping[str, Callable[[], Any]], rounds: int, now: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each call, all in turn; a first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            start = now()
            call()
            taken = now() - start
            if round_:
                times[name].append(taken)
    return times


def prepared(trainer: SSLTrainer) -> dict[str, dict[str, Tensor]]:
    """The batch on the device, with its views."""
    batch = next(iter(trainer.data_loader))
    return trainer.prepare_batch(batch, trainer.state.device, False, **trainer.to_kwargs)


def forward_weights(passes: Sequence[Pass], twin: Pass, settings: Settings) -> dict[str, float]:
    """Time a patch of a forward pass of each kind of network, in those of the supervised network.

    Each gets what it got in the step: a network may see two images at once, or smaller ones.
    """

    def forward(each: Pass) -> Callable[[], Any]:
        def run() -> None:
            with torch.no_grad(), torch.autocast(each.inputs[0].device.type, enabled=each.autocast):
                each.network(*each.inputs)

        return run

    own = repr(twin.network)
    others = {repr(each.network): each for each in passes if repr(each.network) != own}
    calls = {own: forward(twin)} | {kind: forward(each) for kind, each in others.items()}
    times = in_turn(calls if others else {}, 2 * settings.rounds, clock(settings))
    return {own: 1.0} | {
        kind: statistics.median(mine / theirs for mine, theirs in zip(times[kind], times[own], strict=True))
        * (twin.patches / each.patches)
        for kind, each in others.items()
    }


def peak_mib(settings: Settings) -> float:
    """The highest memory so far: of the process, or what torch has allocated on the device."""
    if settings.device != "cpu":
        return torch.cuda.max_memory_allocated(settings.device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def step_memory(trainer: SSLTrainer, settings: Settings) -> float:
    """Peak of some steps, weights included, in MiB."""
    before = peak_mib(settings) if settings.device == "cpu" else 0.0
    tensors = itertools.chain(trainer.objective.parameters(), trainer.objective.buffers())
    weights = sum(tensor.nbytes for tensor in tensors) / 2**20 if settings.device == "cpu" else 0.0
    for _ in range(2):  # the second has the optimiser's state from its beginning
        trainer.run()
    return peak_mib(settings) - before + weights


def measure(method: str, settings: Settings) -> dict[str, Any]:
    """One row, in a process of its own."""
    warnings.simplefilter("ignore")  # MONAI warns of every file that it reads, and of mixed precision on a CPU
    torch.set_num_threads(settings.threads)
    if settings.device == "cpu":
        keep_freed_memory()
    torch.empty(2**25 - 2**20, dtype=torch.uint8)  # freed at once: the allocator is as after a scan has been loaded
    trainer, now = build(method, settings), clock(settings)
    memory = step_memory(trainer, settings)
    reference = build(SUPERVISED, settings)
    sides = {"supervised": reference, "method": trainer}
    if settings.amp or settings.channels_last:
        sides["plain"] = build(method, replace(settings, amp=False, channels_last=False))
    passes, reference_passes = count_passes(trainer), count_passes(reference)
    weights = forward_weights(passes, reference_passes[0], settings)
    expected = units(passes, weights) / units(reference_passes, weights)
    times = in_turn({name: side.run for name, side in sides.items()}, settings.rounds, now)
    ratios = {
        name: [mine / theirs for mine, theirs in zip(times["method"], times[name], strict=True)]
        for name in sides
        if name != "method"
    }
    views = in_turn({"views": lambda: prepared(trainer)}, settings.rounds * settings.steps, now)["views"]
    batch = prepared(trainer)
    patches = {learns: sum(each.patches for each in passes if each.gradient is learns) for learns in (True, False)}
    return {
        "method": method,
        "labeled": len(batch["labeled"]["image"]),
        "unlabeled": len(batch["unlabeled"]["image"]) if "unlabeled" in batch else 0,
        "patches_with_gradient": patches[True] / settings.steps,
        "patches_without": patches[False] / settings.steps,
        "network_weights": {kind.partition("(")[0]: weight for kind, weight in weights.items()},
        "expected_ratio": expected,
        "seconds": statistics.median(times["method"]) / settings.steps,
        "ratio": statistics.median(ratios["supervised"]),
        "ratios": ratios["supervised"],
        "over_passes": statistics.median(ratios["supervised"]) / expected,
        "views_seconds": statistics.fmean(views),  # most views come by chance: a median would hide them
        "memory_mib": memory,
        "plain_ratios": ratios.get("plain", []),
    }


def in_own_process(method: str, settings: Settings) -> dict[str, Any]:
    """:func:`measure` in a process that has done nothing else."""
    # not "fork", which CUDA does not survive, nor "spawn", whose children begin with their parent's peak of memory
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, method, settings).result()


def table_of(rows: Sequence[Mapping[str, Any]], settings: Settings) -> Table:
    """What a person reads; what is more than a tenth above its passes is marked."""
    columns = ["method", "patches", "passes with / without gradient", "expected ratio", "measured ratio", "over passes"]
    columns += ["views, ms", "memory, MiB", "of supervised"]
    columns += ["time of plain"] if settings.amp or settings.channels_last else []
    title = f"{' x '.join(map(str, settings.patch))} voxels, {settings.device}, {settings.rounds} rounds"
    table = Table(*columns, title=title)
    for row in rows:
        over = f"{row['over_passes']:.2f}"
        cells = [
            row["method"],
            f"{row['labeled']} + {row['unlabeled']}",
            f"{row['patches_with_gradient']:g} / {row['patches_without']:g}",
            f"{row['expected_ratio']:.2f}",
            with_range(row["ratios"]),
            f"[bold]{over} ![/bold]" if row["over_passes"] > LIMIT else over,
            f"{1000 * row['views_seconds']:.1f}",
            f"{row['memory_mib']:.0f}",
            f"{row['memory_mib'] / rows[0]['memory_mib']:.2f}",
        ]
        table.add_row(*cells, *([with_range(row["plain_ratios"])] if row["plain_ratios"] else []))
    return table


def with_range(ratios: Sequence[float]) -> str:
    """Median, least and greatest."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Measure, write JSON, print a table; exit with 1 when the checked method is dearer than it may be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="supervised is always measured")
    parser.add_argument("--patch", type=int, nargs=3, default=merged()["patch_size"], help="voxels")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2, help="steps a round")
    parser.add_argument("--amp", action="store_true", help="mixed precision, as the bundle's `amp`")
    parser.add_argument("--channels_last", action="store_true", help="memory format of networks and batches")
    checkable = [DEFAULT, *METHODS]
    parser.add_argument("--check", nargs="?", choices=checkable, const=DEFAULT, help="exit with 1 where it is too dear")
    parser.add_argument("--json", type=Path, default=Path("semi_step.json"), help="file to write")
    given = parser.parse_args()
    check = default_method() if given.check == DEFAULT else given.check
    names = {field.name: getattr(given, field.name) for field in fields(Settings)}
    settings = Settings(**{**names, "patch": tuple(given.patch)})
    methods = dict.fromkeys([SUPERVISED, *([check] if check else []), *given.methods])
    rows: list[dict[str, Any]] = []
    for method in track(methods, console=Console(stderr=True)):
        rows.append(in_own_process(method, settings))
        # anew after each row: whoever stops a long measurement keeps what it has
        given.json.write_text(json.dumps({**asdict(settings), "rows": rows}, indent=1) + "\n")
    Console(width=170).print(table_of(rows, settings))
    dear = [row for row in rows if row["method"] == check and row["over_passes"] > LIMIT]
    if dear:
        sys.exit(f"{check} takes {dear[0]['over_passes']:.2f} times its passes; at most {LIMIT:.2f} is allowed.")


if __name__ == "__main__":
    main()
