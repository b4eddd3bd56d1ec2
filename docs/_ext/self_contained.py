"""A build fails where a page would fetch a script, a style, a font or a picture from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# links that a reader may follow are `<a href>`, and `<link rel>` of other kinds fetches nothing
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=["'](?:https?:)?//"""
    r"""|<link\b(?=[^>]*\brel=["'](?:stylesheet|preload|icon|modulepreload))[^>]*\bhref=["'](?:https?:)?//"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//"""
    r"""|url\(["']?(?:https?:)?//""",
    re.IGNORECASE,
)


def fetched(site: Path) -> Iterator[str]:
    """Every place where a page or a style of the site fetches from elsewhere."""
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        for match in FETCHED.finditer(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: {match[0]}"


def check(app: Sphinx, failure: Exception | None) -> None:
    from sphinx.errors import ExtensionError

    if failure is None and (found := list(fetched(Path(app.outdir)))):
        raise ExtensionError("the site must need no network:\n" + "\n".join(found))


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at the site once it is written."""
    app.connect("build-finished", check)
    return {"version": "1", "parallel_read_safe": True}
