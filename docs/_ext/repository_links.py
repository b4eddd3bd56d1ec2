"""Links are written for readers of the checkout; on the site they lead to the page of that file, or to the file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_site(file: Path) -> str:
    """Where the site has a file of the checkout, from the root of ``docs/``."""
    if file.name == "README.md" and file.parent.name == "docs":
        return f"/bundles/{file.parents[1].name}.md"
    if file == DOCS.parent / "CHANGELOG.md":
        return "/changelog.md"
    return f"/{os.path.relpath(file, DOCS)}"


def rewritten(text: str, folder: Path) -> str:
    """Text of a file of ``folder`` with its relative links made right for the site."""

    def target(link: re.Match[str]) -> str:
        file = (folder / link[1]).resolve()
        # a link to what is not there stays as it is, and Sphinx complains of it
        return on_site(file) + (link[2] or "") if file.exists() else link[0]

    return LINK.sub(target, text)


def rewrite_page(app: Sphinx, name: str, source: list[str]) -> None:
    source[0] = rewritten(source[0], Path(app.env.doc2path(name)).parent)


def rewrite_included(app: Sphinx, path: Path, name: str, source: list[str]) -> None:
    source[0] = rewritten(source[0], (DOCS / path).resolve().parent)


def setup(app: Sphinx) -> dict[str, Any]:
    """Rewrite what is read."""
    app.connect("source-read", rewrite_page)
    app.connect("include-read", rewrite_included)
    return {"version": "1", "parallel_read_safe": True}
