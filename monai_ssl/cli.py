"""The companion command ``monai-ssl``.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from monai_ssl.utils.errors import UserError

__all__ = ["app", "main"]


class _Group(TyperGroup):
    """Prints a mistake of the user, or a path that cannot be written, as one line; with ``--debug`` the traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (UserError, PermissionError, FileExistsError, NotADirectoryError) as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"Error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False)


def main() -> None:
    """Run the command line."""
    app()


def _print_version(value: bool) -> None:
    if value:
        try:
            version = metadata.version("monai-ssl")
        except metadata.PackageNotFoundError:  # a checkout on the path
            from monai_ssl import __version__ as version
        typer.echo(f"monai-ssl {version}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Learn from many 3D scans and few labels: the companion of monai_ssl's MONAI bundles."""


@app.command()
def demo(
    task: Annotated[str, typer.Option(help="segmentation or detection.")] = "segmentation",
    data: Annotated[
        Path | None, typer.Option(help="A Decathlon list or its folder; default: generated volumes.")
    ] = None,
    labels: Annotated[
        int | None, typer.Option(help="Labelled scans that both methods may use; default: 2, detection 8.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split, the volumes and the training.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(help="Optimiser steps; default: few enough for five minutes, the bundle's own for your data."),
    ] = None,
    output: Annotated[Path, typer.Option(help="A new folder is made in it for every call.")] = Path("demo"),
) -> None:
    """Train with the same few labels without and with the unlabelled scans, and compare both on test scans."""
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
    _print_table(("method", metric if task == "detection" else f"mean {metric}", "metrics", "pictures"), rows)
    typer.echo(
        f"Gain by the {result.counts['unlabeled']} unlabelled scans: {result.gain:+.4f} {metric} "
        f"({result.counts['test']} test scans, one seed: a single draw, no proof)."
    )
    typer.echo(f"Training curves: {folder}/*/progress.png. Everything took {result.seconds:.0f} s.")


@app.command()
def split(
    data: Annotated[Path, typer.Option(help="A Decathlon list (JSON), or the folder of its dataset.json.")],
    labels: Annotated[str, typer.Option(help="Labelled budget: a number of cases, a percentage (10%) or all.")],
    output: Annotated[Path, typer.Option(help="The list to write.")],
    validation: Annotated[int, typer.Option(help="Labelled cases for validation; 0 keeps the list's own.")] = 0,
    test: Annotated[int, typer.Option(help="Labelled cases for the final test; 0 keeps the list's own.")] = 0,
    seed: Annotated[int, typer.Option(help="Another seed is another draw.")] = 0,
    patient_regex: Annotated[
        str | None, typer.Option(help="Finds the patient in a file name where the list names none; default: the name.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")] = False,
) -> None:
    """Draw labelled, unlabelled, validation and test cases, by whole patients.

    Fewer labels are a subset of more, and the test cases are the same for every budget.
    """
    from monai_ssl.data.datalist import PARTS, find_datalist
    from monai_ssl.data.split import write_split

    source = find_datalist(data, None)
    choices = {"labels": labels, "validation": validation, "test": test, "seed": seed, "patient_regex": patient_regex}
    drawn = write_split(source, output, overwrite=overwrite, **choices)
    made = drawn["split"]
    _print_table(("part", "cases", "patients"), [(p, made["counts"][p], made["patients"][p]) for p in PARTS])
    for message in made["messages"]:
        typer.echo(f"Note: {message}.")
    typer.echo(f"Seed {made['seed']}; patients told apart by: {made['patient_rule']}.")
    folder = source.parent.resolve()
    if not all((folder / case["image"]).exists() for case in drawn["training"]):
        hint = f"--dataset_dir FOLDER (the one that {source} is used with) "  # a split of a split that lies elsewhere
    else:
        hint = f"--dataset_dir {folder} " if output.parent.resolve() != folder else ""
    typer.echo(f"Wrote {output}; use it with {hint}--datalist {output.resolve()}")


@app.command()
def check(
    datalist: Annotated[Path, typer.Argument(metavar="LIST", help="A Decathlon list (JSON), or its folder.")],
    dataset_dir: Annotated[
        Path | None, typer.Option("--dataset_dir", help="What the list's paths are relative to; default: its folder.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all faults to this file, too.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes that read; default: up to one a core.")] = None,
    max_gigabytes: Annotated[
        float, typer.Option("--max_gigabytes", help="Of one file's voxels; a header that claims more is refused.")
    ] = 8.0,
    patch_size: Annotated[
        str | None, typer.Option("--patch_size", help="Voxels, as 48,64,48; scans that are smaller are told.")
    ] = None,
    patient_regex: Annotated[
        str | None, typer.Option("--patient_regex", help="Finds the patient in a file name where the list names none.")
    ] = None,
) -> None:
    """Name every fault of a data set in one run: list, files, geometry, labels, leaks.

    Each file is read once. The command ends with 1 if there are errors, and with 0 if there are warnings alone.
    """
    from monai_ssl.data.check_run import check_data
    from monai_ssl.data.check_show import fault_rows, reading_bar, summary
    from monai_ssl.utils.files import write_json

    words = _words(patch_size)
    if words is not None and not all(word.isdecimal() for word in words):
        raise UserError(f"--patch_size must be three lengths in voxels, as 48,64,48, got {patch_size!r}.")
    with reading_bar() as progress:
        result = check_data(
            datalist,
            dataset_dir,
            jobs=jobs,
            max_gigabytes=max_gigabytes,
            patch_size=None if words is None else [int(word) for word in words],
            patient_regex=patient_regex,
            progress=progress,
        )
    if result.faults:
        _print_table(("", "part", "case", "file", "fault", "remedy"), fault_rows(result))
        typer.echo("")
    typer.echo(summary(result))
    if json_file is not None:
        write_json(json_file, result.as_dict())
        typer.echo(f"Wrote {json_file}")
    if result.errors:
        raise typer.Exit(1)


@app.command()
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
    from monai_ssl.study.markdown import mean_rows
    from monai_ssl.study.slurm_queue import slurm_options

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
    _print_table(tuple(columns), [tuple(row) for row in rows])
    typer.echo("")
    for sentence in result.content["findings"]["answer"]:
        typer.echo(sentence)
    typer.echo(f"Wrote {output}/study.md, study.json, study.csv, curve.png and curve.svg.")
    for failure in result.failures:
        typer.echo(f"Error: {failure.spec.name}: {failure.reason}", err=True)
    if result.failures:
        typer.echo(f"{len(result.failures)} runs failed; the same command tries them again.", err=True)
        raise typer.Exit(1)


@app.command()
def bundles() -> None:
    """List the bundles."""
    from monai_ssl.utils.bundle_files import bundle_metadata, bundle_names, bundle_path

    rows = []
    for name in bundle_names():
        info = bundle_metadata(name)
        rows.append((name, info.get("version", ""), info.get("description", ""), bundle_path(name)))
    _print_table(("name", "version", "description", "path"), rows)


@app.command()
def path(name: Annotated[str, typer.Argument(help="A bundle's name.")]) -> None:
    """Print a bundle's folder and nothing else."""
    from monai_ssl.utils.bundle_files import bundle_path

    typer.echo(bundle_path(name))


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="A bundle's name.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The new folder.")],
    run: Annotated[
        Path | None,
        typer.Option("--from", help="A run's output_dir: its model and values go into the copy."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="A model.pt that fits, or untrained: MONAI Label offers a bundle only if it has a model."),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A value for all configs of the copy; may be repeated."),
    ] = None,
) -> None:
    """Copy a bundle out, to change it or to serve it from MONAI Label."""
    from functools import partial

    from monai_ssl.utils.bundle_files import copy_bundle

    finish = None
    if weights is not None:
        if run is not None:
            raise UserError("--from and --weights exclude each other: a run brings its own model along.")
        from monai_ssl.networks.first_model import write_first_model

        finish = partial(write_first_model, weights=weights)
    typer.echo(f"Wrote {copy_bundle(name, directory, run, finish, _settings(values or []))}")


@app.command()
def label(
    studies: Annotated[str, typer.Option(help="Folder of NIfTI files, or the address of a DICOMweb server.")],
    app_folder: Annotated[
        Path | None, typer.Option("--app", help="For models and configs; default: monai_ssl in the studies' folder.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; the server has no login.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="OHIF's page expects 8000.")] = 8000,
    models: Annotated[str, typer.Option(help="segmentation, detection, or both.")] = "segmentation,detection",
    labels: Annotated[
        str | None, typer.Option(help="Classes of the segmentation, as in liver,tumour; default: foreground.")
    ] = None,
    objects: Annotated[str | None, typer.Option(help="Classes of the detection; default: nodule.")] = None,
    modality: Annotated[
        str | None, typer.Option(help="CT or MRI; default: MRI for the segmentation, CT for the detection.")
    ] = None,
) -> None:
    """Serve studies to 3D Slicer and OHIF with MONAI Label, learn from all of them, and say which to label next."""
    from monai_ssl.label.app_folder import MODELS
    from monai_ssl.label.server import serve

    chosen = _words(models) or []
    if not chosen or set(chosen) - MODELS.keys():
        raise UserError(f"--models must be of {', '.join(MODELS)}, got {models!r}.")
    if modality not in (None, "CT", "MRI"):
        raise UserError(f"--modality must be CT or MRI, got {modality!r}.")
    serve(studies, app_folder, host, port, chosen, _words(labels), _words(objects), modality, say=typer.echo)


def _settings(words: list[str]) -> dict[str, Any]:
    import yaml

    found = {}
    for word in words:
        key, equals, text = word.partition("=")
        try:
            if not (key and equals):
                raise ValueError
            found[key.strip()] = yaml.safe_load(text)
        except (ValueError, yaml.YAMLError):
            raise UserError(
                f"--set must be KEY=VALUE with a YAML value, such as spacing=[1,1,2], got {word!r}."
            ) from None
    return found


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _print_table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 10_000  # nothing is wrapped on its way to a file or another program
    console.print(table)


if __name__ == "__main__":
    main()
