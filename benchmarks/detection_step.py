"""Seconds and memory of a training step of the detection methods, beside its network passes.

    python benchmarks/detection_step.py --rounds 15 --json detection_step.json
    python benchmarks/detection_step.py --methods focalmix_4_views --channels_last

Expected and measured ratios, rounds in turn, clock and memory are those of ``semi_step.py``: a patch with gradient is 3
units, one without is 1, and "over passes" is the measured ratio over the expected one. "Outside" is the time of the
objective's forward pass less that of the networks': matching, targets, suppression, mixing and losses, not the losses'
part of the backward pass.

The detector has first learned to find bright cuboids with labels alone, as long as ``--trained`` says, so that
it is sure of objects in unlabelled patches and suppression and mixing have their work; "objects" are those.

A second table compares K views in one forward pass with K calls of one view each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.networks.nets import ResNet
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table
from semi_step import LIMIT, RUN, clock, count_passes, in_turn, networks, step_memory, units, with_range
from semi_step import Settings as StepSettings
from torch import Tensor, nn

from monai_ssl.engines import SSLTrainer
from monai_ssl.engines.prepare_batch import prepare_streams
from monai_ssl.losses.soft_focal import SoftTargetFocalLoss
from monai_ssl.networks.anchor_targets import soft_anchor_targets
from monai_ssl.networks.detector import Detector
from monai_ssl.objectives.base import Objective
from monai_ssl.objectives.focalmix import FocalMix
from monai_ssl.objectives.pseudo_boxes import PseudoBoxes
from monai_ssl.transforms.grid_symmetry import draw_symmetries, grid_symmetries
from monai_ssl.utils.allocator import keep_freed_memory
from monai_ssl.utils.seeding import seed_torch

SUPERVISED = "supervised"
MIXING = partial(FocalMix, burn_in=0.0, mix_ramp=0.0)  # all at full strength from the first step
METHODS: dict[str, Callable[..., Objective]] = {
    SUPERVISED: partial(FocalMix, image_mix=False, object_mix=0.0),
    "pseudo_boxes": partial(PseudoBoxes, burn_in=0.0),
    "focalmix_1_view": partial(MIXING, views=1),
    "focalmix_2_views": partial(MIXING, views=2),
    "focalmix_4_views": partial(MIXING, views=4),
    "no_mixing": partial(MIXING, image_mix=False, object_mix=0.0),
    "image_mix_only": partial(MIXING, object_mix=0.0),
    "object_mix_only": partial(MIXING, image_mix=False),
}
VIEWS = (2, 4, 8)
ANCHORS = (4, 6, 8)
STRIDE = 8  # of the coarsest level
CASES, ROWS = 2, 4  # of each stream; rows of boxes, of which one to three hold an object


@dataclass(frozen=True)
class Settings(StepSettings):
    """What is measured; travels to the process of a method."""

    trained: int = 100


def batch_of(patch: Sequence[int]) -> dict[str, dict[str, Tensor]]:
    """Noise of zero mean and unit deviation with one to three bright cuboids a patch."""
    generator = torch.Generator().manual_seed(0)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    images = torch.randn(2 * CASES, 1, *patch, generator=generator)
    boxes = torch.full((2 * CASES, ROWS, 6), torch.nan)
    for case in range(2 * CASES):
        for row in range(draw(1, ROWS - 1)):
            sides = [draw(ANCHORS[0], min(ANCHORS[-1], length // 2)) for length in patch]
            low = [draw(0, length - side) for length, side in zip(patch, sides, strict=True)]
            high = [start + side for start, side in zip(low, sides, strict=True)]
            images[case, 0, low[0] : high[0], low[1] : high[1], low[2] : high[2]] += 3.0
            boxes[case, row] = torch.tensor([*low, *high], dtype=torch.float32)
    boxes = boxes[:CASES]
    labels = torch.where(boxes.isnan().any(2), -1, 0)
    return {
        "labeled": {"image": images[:CASES], "box": boxes, "label": labels},
        "unlabeled": {"image": images[CASES:]},
    }


def detector() -> Detector:
    """The bundle's own: strides of 2, 4 and 8 voxels, three cubes at each place."""
    seed_torch(0, "initialisation")
    backbone = ResNet(
        "basic",
        [1, 1, 1, 1],
        [16, 32, 64, 128],
        n_input_channels=1,
        conv1_t_size=3,
        conv1_t_stride=2,
        no_max_pool=True,
        feed_forward=False,
    )
    return Detector(backbone, [[side] * 3 for side in ANCHORS], levels=(1, 2, 3), channels=16)


def prepared(batch: Any, device: Any = None, non_blocking: bool = False, **kwargs: Any) -> dict[str, dict[str, Tensor]]:
    """The batch on the device; a memory format is one of images, not of boxes."""
    streams = prepare_streams(batch, device, non_blocking)
    for stream in streams.values():
        stream["image"] = stream["image"].to(**kwargs)
    return streams


def build(
    method: str, settings: Settings, weights: Mapping[str, Tensor] | None = None, learning_rate: float = 1e-4
) -> SSLTrainer:
    """A trainer with one batch for ever; a call of ``run`` makes as many steps as a round has.

    At the default rate the detector hardly changes in so few steps.
    """
    batch = batch_of(settings.patch)
    if method == SUPERVISED:
        del batch["unlabeled"]
    network = detector()
    network.load_state_dict(weights or network.state_dict())
    network.to(settings.device)
    if settings.channels_last:
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    objective = METHODS[method](network, loss=SoftTargetFocalLoss(reduction="none"))
    trainer = SSLTrainer(
        device=torch.device(settings.device),
        max_epochs=1,
        data_loader=itertools.repeat(batch),
        objective=objective,
        optimizer=torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4),
        epoch_length=RUN,
        prepare_batch=prepared,
        amp=settings.amp,
        to_kwargs={"memory_format": torch.channels_last_3d} if settings.channels_last else {},
    )
    trainer.state.iteration = RUN // 2
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=settings.steps), lambda engine: engine.terminate())
    return trainer


def trained_weights(settings: Settings) -> dict[str, Tensor]:
    """Those of a detector that is sure of what it finds."""
    trainer = build(SUPERVISED, replace(settings, steps=max(1, settings.trained), amp=False), learning_rate=3e-3)
    if settings.trained:
        trainer.run()
    return trainer.objective.network.state_dict()


@contextmanager
def timed(modules: Sequence[nn.Module], now: Callable[[], float]) -> Iterator[list[float]]:
    """Seconds of every forward pass of some modules."""
    starts: list[float] = []
    taken: list[float] = []
    hooks = []
    for module in modules:
        hooks.append(module.register_forward_pre_hook(lambda *_: starts.append(now())))
        hooks.append(module.register_forward_hook(lambda *_: taken.append(now() - starts.pop())))
    yield taken
    for hook in hooks:
        hook.remove()


def outside_seconds(trainer: SSLTrainer, settings: Settings) -> list[float]:
    """Seconds a step, in each of some rounds, that the objective's forward pass takes beside its networks'."""
    seconds = []
    now = clock(settings)
    for _ in range(settings.rounds):
        with timed([trainer.objective], now) as whole, timed(list(networks(trainer.objective)), now) as passes:
            trainer.run()
        seconds.append((sum(whole) - sum(passes)) / settings.steps)
    return seconds


def start_process(settings: Settings) -> None:
    """Threads, allocator and warnings of a process that measures."""
    warnings.simplefilter("ignore")  # torch warns of mixed precision on a CPU
    torch.set_num_threads(settings.threads)
    if settings.device == "cpu":
        keep_freed_memory()
    torch.empty(2**25 - 2**20, dtype=torch.uint8)  # freed at once: the allocator is as after a scan has been loaded


def measure(method: str, settings: Settings, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """One row of the first table, in a process of its own."""
    start_process(settings)
    trainer = build(method, settings, weights)
    memory = step_memory(trainer, settings)
    reference = build(SUPERVISED, settings, weights)
    sides = {"supervised": reference, "method": trainer}
    if settings.amp or settings.channels_last:
        sides["plain"] = build(method, replace(settings, amp=False, channels_last=False), weights)
    passes, reference_passes = count_passes(trainer), count_passes(reference)
    alike = {repr(each.network): 1.0 for each in [*passes, *reference_passes]}
    expected = units(passes, alike) / units(reference_passes, alike)
    times = in_turn({name: side.run for name, side in sides.items()}, settings.rounds, clock(settings))
    ratios = {
        name: [mine / theirs for mine, theirs in zip(times["method"], times[name], strict=True)]
        for name in sides
        if name != "method"
    }
    seconds = statistics.median(times["method"]) / settings.steps
    outside = statistics.median(outside_seconds(trainer, settings))
    patches = {learns: sum(each.patches for each in passes if each.gradient is learns) for learns in (True, False)}
    figures = {name: float(figure) for name, figure in trainer.objective.figures.items()}
    return {
        "method": method,
        "patches_with_gradient": patches[True] / settings.steps,
        "patches_without": patches[False] / settings.steps,
        "expected_ratio": expected,
        "seconds": seconds,
        "ratio": statistics.median(ratios["supervised"]),
        "ratios": ratios["supervised"],
        "over_passes": statistics.median(ratios["supervised"]) / expected,
        "outside_seconds": outside,
        "outside_share": outside / seconds,
        "memory_mib": memory,
        "figures": figures,
        "plain_ratios": ratios.get("plain", []),
    }


def measure_views(count: int, settings: Settings, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """One row of the second table: targets from K views at once, and from each by itself."""
    start_process(settings)
    trainer = build("no_mixing", settings, weights)
    network: Any = trainer.objective.network
    batch = prepared(next(iter(trainer.data_loader)), trainer.state.device, **trainer.to_kwargs)
    images = batch["unlabeled"]["image"]
    symmetries = draw_symmetries(grid_symmetries(settings.patch), count)

    def call(*views: Any) -> None:
        for each in views:
            with torch.autocast(images.device.type, enabled=settings.amp):
                soft_anchor_targets(network, images, each)

    calls = {"together": partial(call, symmetries), "apart": partial(call, *([each] for each in symmetries))}
    times = in_turn(calls, settings.rounds, clock(settings))
    ratios = [mine / theirs for mine, theirs in zip(times["together"], times["apart"], strict=True)]
    medians = {f"{name}_seconds": statistics.median(taken) for name, taken in times.items()}
    return {"views": count, "patches": count * len(images), **medians, "ratios": ratios}


def in_own_process(call: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """A call in a process that has done nothing else."""
    # not "fork", which CUDA does not survive, nor "spawn", whose children begin with their parent's peak of memory
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["monai_ssl.engines", "monai_ssl.objectives.focalmix"])  # imported once for all rows
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(call, *arguments).result()


def table_of(rows: Sequence[Mapping[str, Any]], settings: Settings) -> Table:
    """What a person reads; what is more than a tenth above its passes is marked."""
    columns = ["method", "patches with / without gradient", "expected ratio", "measured ratio", "over passes"]
    columns += ["step, ms", "outside, ms", "of the step", "objects", "memory, MiB", "of supervised"]
    columns += ["time of plain"] if settings.amp or settings.channels_last else []
    whole = ("method", "measured ratio", "time of plain")
    table = Table(*(Column(name, no_wrap=name in whole) for name in columns), title=title(settings))
    for row in rows:
        over = f"{row['over_passes']:.2f}"
        cells = [
            row["method"],
            f"{row['patches_with_gradient']:g} / {row['patches_without']:g}",
            f"{row['expected_ratio']:.2f}",
            with_range(row["ratios"]),
            f"[bold]{over} ![/bold]" if row["over_passes"] > LIMIT else over,
            f"{1000 * row['seconds']:.0f}",
            f"{1000 * row['outside_seconds']:.1f}",
            f"{row['outside_share']:.1%}",
            f"{row['figures'].get('objects', 0):g}",
            f"{row['memory_mib']:.0f}",
            f"{row['memory_mib'] / rows[0]['memory_mib']:.2f}",
        ]
        table.add_row(*cells, *([with_range(row["plain_ratios"])] if row["plain_ratios"] else []))
    return table


def views_table_of(rows: Sequence[Mapping[str, Any]], settings: Settings) -> Table:
    """K views at once beside K calls."""
    table = Table("views", "patches", "together, ms", "apart, ms", "ratio", title=title(settings))
    for row in rows:
        seconds = [f"{1000 * row[name]:.1f}" for name in ("together_seconds", "apart_seconds")]
        table.add_row(str(row["views"]), str(row["patches"]), *seconds, with_range(row["ratios"]))
    return table


def title(settings: Settings) -> str:
    """What both tables were measured with."""
    kinds = [name for name in ("amp", "channels_last") if getattr(settings, name)]
    patch = " x ".join(map(str, settings.patch))
    return ", ".join([f"{patch} voxels", settings.device, f"{settings.rounds} rounds", *kinds])


def main() -> None:
    """Measure, write JSON, print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="supervised is always measured")
    parser.add_argument("--views", type=int, nargs="*", choices=range(1, 49), default=VIEWS, help="K of the 2nd table")
    parser.add_argument("--patch", type=int, nargs=3, default=[48, 48, 48], help=f"voxels, multiples of {STRIDE}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=2, help="steps a round")
    parser.add_argument("--trained", type=int, default=100, help="steps before anything is measured")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument("--channels_last", action="store_true", help="memory format of networks and images")
    parser.add_argument("--json", type=Path, default=Path("detection_step.json"), help="file to write")
    given = parser.parse_args()
    names = {field.name: getattr(given, field.name) for field in fields(Settings)}
    settings = Settings(**{**names, "patch": tuple(given.patch)})
    torch.set_num_threads(settings.threads)
    weights = {name: tensor.cpu() for name, tensor in trained_weights(settings).items()}
    tasks: list[tuple[str, Callable[..., dict[str, Any]], Any]] = [
        *(("rows", measure, method) for method in dict.fromkeys([SUPERVISED, *given.methods])),
        *(("views", measure_views, count) for count in given.views),
    ]
    found: dict[str, list[dict[str, Any]]] = {"rows": [], "views": []}
    for part, call, argument in track(tasks, console=Console(stderr=True)):
        found[part].append(in_own_process(call, argument, settings, weights))
        # anew after each row: whoever stops a long measurement keeps what it has
        given.json.write_text(json.dumps({**asdict(settings), **found}, indent=1) + "\n")
    console = Console(width=170)
    console.print(table_of(found["rows"], settings))
    if found["views"]:
        console.print(views_table_of(found["views"], settings))


if __name__ == "__main__":
    main()
