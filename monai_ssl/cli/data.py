"""The commands for a data set: draw its budgets, name its faults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ssl.cli.console import listed, print_table
from monai_ssl.utils.errors import UserError

__all__ = ["check", "split"]


def split(
    data: Annotated[
        Path, typer.Option(help="A Decathlon list (JSON), or the folder of a dataset.json, nnU-Net's too.")
    ],
    labels: Annotated[str, typer.Option(help="Labelled budget: a number of cases, a percentage (10%) or all.")],
    output: Annotated[Path, typer.Option(help="The list to write.")],
    validation: Annotated[int, typer.Option(help="Labelled cases for validation; 0 keeps the list's own.")] = 0,
    test: Annotated[int, typer.Option(help="Labelled cases for the final test; 0 keeps the list's own.")] = 0,
    seed: Annotated[int, typer.Option(help="Another seed is another draw.")] = 0,
    patient_regex: Annotated[
        str | None, typer.Option(help="Finds the patient in a file name where the list names none; default: the name.")
    ] = None,
    exclude: Annotated[
        str | None,
        typer.Option(help="Cases to leave out: names of image files without suffix or paths as listed, as a,b."),
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
    choices["exclude"] = exclude
    drawn = write_split(source, output, overwrite=overwrite, **choices)
    made = drawn["split"]
    print_table(("part", "cases", "patients"), [(p, made["counts"][p], made["patients"][p]) for p in PARTS])
    for message in made["messages"]:
        typer.echo(f"Note: {message}.")
    typer.echo(f"Seed {made['seed']}; patients told apart by: {made['patient_rule']}.")
    folder = source.parent.resolve()
    if not all((folder / case["image"]).exists() for case in drawn["training"]):
        hint = f"--dataset_dir FOLDER (the one that {source} is used with) "  # a split of a split that lies elsewhere
    else:
        hint = f"--dataset_dir {folder} " if output.parent.resolve() != folder else ""
    typer.echo(f"Wrote {output}; use it with {hint}--datalist {output.resolve()}")


def check(
    datalist: Annotated[
        Path, typer.Argument(metavar="LIST", help="A Decathlon list (JSON), or its folder; or nnU-Net's.")
    ],
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
    pool: Annotated[
        bool,
        typer.Option("--pool", help="Look for scans that are nearly another one or unlike the labelled ones, too."),
    ] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="With --pool: draw the most suspicious scans (PNG).")
    ] = None,
) -> None:
    """Name every fault of a data set in one run: list, files, geometry, labels, leaks.

    Each file is read once, with --pool each scan once more. The command ends with 1 if there are errors, and with 0 if
    there are warnings alone.
    """
    from monai_ssl.data.check_pool import exclude_line
    from monai_ssl.data.check_run import check_data
    from monai_ssl.data.check_show import fault_rows, reading_bar, summary
    from monai_ssl.utils.files import write_json

    words = listed(patch_size)
    if words is not None and not all(word.isdecimal() for word in words):
        raise UserError(f"--patch_size must be three lengths in voxels, as 48,64,48, got {patch_size!r}.")
    if picture is not None and not pool:
        raise UserError("--picture needs --pool, whose scans it shows.")
    with reading_bar() as progress:
        result = check_data(
            datalist,
            dataset_dir,
            jobs=jobs,
            max_gigabytes=max_gigabytes,
            patch_size=None if words is None else [int(word) for word in words],
            patient_regex=patient_regex,
            pool=pool,
            progress=progress,
        )
    if result.faults:
        print_table(("", "part", "case", "file", "fault", "remedy"), fault_rows(result))
        typer.echo("")
    typer.echo(summary(result))
    if (setting := exclude_line(result.faults, [file for _, file in result.paths])) is not None:
        typer.echo(f"To train without one of each pair: {setting}")
    if picture is not None:
        from monai_ssl.data.check_pool_picture import draw_suspects  # with Matplotlib

        shown = draw_suspects(result.faults, result.paths, picture)
        typer.echo(f"Wrote {picture} ({len(shown)} scans)")
    if json_file is not None:
        write_json(json_file, result.as_dict())
        typer.echo(f"Wrote {json_file}")
    if result.errors:
        raise typer.Exit(1)
