"""The page itself: one HTML file without anything from elsewhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from monai_ssl.report.drawing import Drawings
from monai_ssl.report.run_page import run_page
from monai_ssl.report.run_sources import GivenData
from monai_ssl.report.run_status import is_run
from monai_ssl.report.study_files import STUDY, open_study
from monai_ssl.report.study_page import study_page
from monai_ssl.study.frozen_plan import PLAN
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write

__all__ = ["LARGEST_PAGE", "PAGE", "Written", "write_report"]

PAGE = "report.html"
LARGEST_PAGE = 15_000_000
"""Bytes of a page."""

_FIGURES = "figures"
_GENERATOR = b'<meta name="generator" content="monai_ssl">'  # as base.html has it


@dataclass(frozen=True)
class Written:
    """A page that was written.

    Attributes:
        path: the file.
        notes: sentences on what is not in it.
    """

    path: Path
    notes: list[str]


def write_report(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    device: str | None = None,
    given: GivenData | None = None,
) -> Written:
    """Write the page of a study's or a run's folder, and its figures as PNG and SVG into ``figures`` in that folder.

    Args:
        folder: of a study, or of a training or evaluation of any bundle.
        output: the page; by default ``report.html`` in the folder.
        overwrite: whether a page that is there may be replaced.
        device: for the predictions of the cases that are shown, such as ``cpu``; None leaves it to the bundle.
        given: of a run where its scans are; a study knows its own.

    Raises:
        UserError: when the folder is neither, or the page is there already, or would replace a file that is none.
    """
    source, page = Path(folder).absolute(), Path(folder) / PAGE if output is None else Path(output)
    if not source.is_dir():
        raise UserError(f"{folder}: is no folder. Give that of a study or of a run.")
    _check_target(page, overwrite)
    drawings = Drawings(source / _FIGURES)
    if (source / STUDY).is_file():
        values, template = study_page(open_study(source), drawings, device), "study.html"
    elif is_run(source):
        values, template = run_page(source, drawings, device, given or GivenData()), "run.html"
    else:
        raise UserError(_nothing_there(source))
    html = _render_within(template, values)
    try:
        atomic_write(page, lambda stream: stream.write(html))
    except OSError as error:
        raise UserError(f"{page}: cannot be written ({error.strerror}). Give another --output.") from error
    return Written(page, values["notes"])


def _check_target(page: Path, overwrite: bool) -> None:
    if page.exists() and not (page.is_file() and _GENERATOR in page.read_bytes()[:2000]):
        raise UserError(f"{page}: is there already and no page of this command. Give another --output.")
    if page.exists() and not overwrite:
        raise UserError(f"{page}: is there already. Replace it with --overwrite, or give another --output.")
    if not page.parent.is_dir():
        raise UserError(f"{page}: its folder is not there. Make it, or give another --output.")


def _nothing_there(folder: Path) -> str:
    if (folder / PLAN).is_file():
        return f"{folder}: its study has no {STUDY} yet. The command `study` writes it."
    below = next((path.name for path in sorted(folder.iterdir()) if is_run(path) or (path / STUDY).is_file()), None)
    remedy = "Give the --output of one." if below is None else f"Give a folder in it, such as {below}."
    return f"{folder}: holds neither a study ({STUDY}) nor a run. {remedy}"


def _render_within(template: str, values: dict[str, Any]) -> bytes:
    """Render, with fewer cases in the viewer where the page would be too large."""
    html = render(template, values)
    shown = list(values["cases"].cases)
    volumes = [one.volumes for one in shown]
    while len(html) > LARGEST_PAGE and volumes:
        volumes.pop()
        left_out = f"{len(shown) - len(volumes)} of {len(shown)} cases are not in the viewer"
        note = f"{left_out}, since the page would be larger than {LARGEST_PAGE // 1_000_000} MB."
        values["notes"][:] = [*(old for old in values["notes"] if " in the viewer, since" not in old), note]
        html = render(template, values, volumes)
    return html


def render(template: str, values: dict[str, Any], volumes: list[Any] | None = None) -> bytes:
    """Fill a template.

    Args:
        template: its name.
        values: for it.
        volumes: for the viewer; by default those of all cases that are shown.
    """
    cases = values["cases"]
    if volumes is None:
        volumes = [one.volumes for one in cases.cases]
    data = {"cases": volumes, "classes": cases.classes} if volumes else None
    script = _text("page.js")
    viewer = (files(__package__) / "vendor" / "niivue.umd.js").read_bytes() if volumes else b""
    allowed = [_digest(text) for text in (script.encode(), viewer) if text]
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    library = base64.b64encode(gzip.compress(viewer, 9, mtime=0)).decode() if viewer else ""
    page = environment.get_template(template).render(
        **values,
        style=Markup(_text("page.css")),
        script=Markup(script),
        viewer_data=data,
        viewer_library=library,
        scripts=" ".join(allowed),
    )
    return page.encode()


def _text(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _digest(script: bytes) -> str:
    """A script as the page's policy names it: no other one runs, whatever a name in the page holds."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
