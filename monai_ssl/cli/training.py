"""The commands that train and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ssl.cli.console import print_table
from monai_ssl.cli.report import tell_report
from monai_ssl.utils.errors import UserError

__all__ = ["demo", "study"]


def demo(
    task: Annotated[str, typer.Option(help="segmentation or detection.")] = "segmentation",
    data: Annotated[
        Path | None, typer.Option(help="A Decathlon list or its folder; default: generated volumes.")
    ] = None,
    labels: Annotated[
        int | None,
        typer.Option(help="Labelled scans; a segmentation adds a budget of twice as many; default: 2, detection 8."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split, the volumes and the training.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(help="Optimiser steps; default: few enough for five minutes, the bundle's own for your data."),
    ] = None,
    output: Annotated[Path, typer.Option(help="A new folder is made in it for every call.")] = Path("demo"),
) -> None:
    """Train with the same few labels without and with the unlabelled scans, and show it as a page."""
    import time

    from monai_ssl.study.demo import DEMO_TASKS, run_demo

    settings = {} if steps is None else {"max_steps": steps}
    folder = output / time.strftime("%Y%m%d-%H%M%S")
    result = run_demo(folder, task=task, data=data, labels=labels, seed=seed, settings=settings, say=typer.echo)
    metric = DEMO_TASKS[task].metric[1]
    rows = [
        (m, f"{score:.4f}", result.folders[m] / "metrics.json", result.folders[m] / "overlay.png")
        for m, score in result.scores.items()
    ]
    typer.echo("")
    typer.echo(f"With {result.budgets[0]} labelled scans:")
    print_table(("method", metric if task == "detection" else f"mean {metric}", "metrics", "pictures"), rows)
    typer.echo(
        f"Gain by the {result.counts['unlabeled']} unlabelled scans: {result.gain:+.4f} {metric} "
        f"({result.counts['test']} test scans, one seed: a single draw, no proof)."
    )
    start = time.perf_counter()
    tell_report(result.study, None, overwrite=True, device=None)
    typer.echo(f"Everything took {result.seconds + time.perf_counter() - start:.0f} s.")


def study(
    plan: Annotated[Path, typer.Argument(help="The plan (YAML): bundle, data, budgets, methods, seeds, steps, ...")],
    output: Annotated[Path, typer.Option(help="The study's folder; a stopped study goes on there.")],
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at once; default: 1, and on Slurm what the cluster gives."),
    ] = None,
    launcher: Annotated[
        str, typer.Option(help="local, or slurm: the runs become a job array, which goes on by itself.")
    ] = "local",
    slurm: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of sbatch, such as time=120 or gres=gpu:1; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and write nothing.")] = False,
) -> None:
    """Compare methods over labelled budgets and seeds, on the same test cases.

    Finished runs are never repeated: after a stop, a failure or an addition to the plan, the same command goes on.
    """
    from monai_ssl.study.conduct import preview_study, run_study
    from monai_ssl.study.slurm_queue import slurm_options
    from monai_ssl.study.table_rows import mean_rows

    if launcher not in ("local", "slurm"):
        raise UserError(f"--launcher must be local or slurm, got {launcher!r}.")
    if slurm and launcher == "local":
        raise UserError("--slurm is for --launcher slurm: give that too, or leave it out.")
    options = slurm_options(slurm or []) if launcher == "slurm" else None
    if dry_run:
        typer.echo("\n".join(preview_study(plan, output, jobs=jobs)))
        return
    try:
        result = run_study(plan, output, jobs=jobs, slurm=options, say=typer.echo)
    except KeyboardInterrupt:
        lost = "Stopped, and nothing is lost: the same command goes on."
        typer.echo(lost if options is None else "The cluster goes on; the same command waits for it again.", err=True)
        raise typer.Exit(130) from None
    typer.echo("")
    columns, rows = mean_rows(result.content)
    print_table(tuple(columns), [tuple(row) for row in rows])
    typer.echo("")
    for sentence in result.content["findings"]["answer"]:
        typer.echo(sentence)
    typer.echo(f"Wrote {output}/study.md, study.json, study.csv, curve.png and curve.svg.")
    tell_report(output, None, overwrite=True, device=None)
    for failure in result.failures:
        typer.echo(f"Error: {failure.spec.name}: {failure.reason}", err=True)
    if result.failures:
        typer.echo(f"{len(result.failures)} runs failed; the same command tries them again.", err=True)
        raise typer.Exit(1)
