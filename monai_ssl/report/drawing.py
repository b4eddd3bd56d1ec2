"""Figures as files, as vector graphics inside a page, and as pictures inside a page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
from markupsafe import Markup, escape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from monai_ssl.utils.files import atomic_write

__all__ = ["Drawing", "Drawings", "inline_svg"]

# what is black, grey or dark on white becomes what the page has for it, so that it can be read on a dark page, too
_INKS = {
    "#000000": "ink",
    "#222222": "ink",
    "#404040": "baseline",
    "#767676": "muted",
    "#8a8a8a": "muted",
    "#e4e4e4": "rule",
    "#ffffff": "paper",
    "#d55e00": "primary",
}
_LARGEST_VECTOR = 600_000  # characters; a figure of more is a picture
_LARGEST_PICTURE = 3_000_000  # bytes of a file that a run left
_FONT = re.compile(r"'DejaVu Sans'[^;\"]*")


@dataclass(frozen=True)
class Drawing:
    """A figure on the page.

    Attributes:
        name: of its files, and part of its identifiers.
        alt: what it shows, for those who do not see it.
        caption: what to know to read it.
        body: its markup.
        wide: whether it is too detailed for a narrow window, where it then scrolls.
        points: whether a pointer over a part of it shows words.
        slim: its markup for a narrow window; None where it then scrolls.
    """

    name: str
    alt: str
    caption: str
    body: Markup
    wide: bool = True
    points: bool = False
    slim: Markup | None = None


@dataclass
class Drawings:
    """Makes the figures of a page, each with a PNG and an SVG file.

    Attributes:
        folder: gets the files.
        names: of the files that were written.
    """

    folder: Path
    names: list[str] = field(default_factory=list)

    def vector(
        self,
        figure: Figure,
        name: str,
        alt: str,
        caption: str = "",
        titles: dict[str, str] | None = None,
        slim: Figure | None = None,
    ) -> Drawing:
        """Put a figure into the page as SVG.

        Args:
            figure: the figure.
            name: of the files; letters, digits and ``_``, one of its own for every figure of the page.
            alt: what it shows.
            caption: what to know to read it.
            titles: by the ``gid`` of an artist the words that a pointer over it shows.
            slim: the same for a narrow window, which has no files.
        """
        png, svg = self._files(figure, name)
        if len(svg) > _LARGEST_VECTOR:
            return Drawing(name, alt, caption, _image(png, alt))
        small = None if slim is None else inline_svg(_svg(slim, name), f"{name}_slim", alt, titles or {})
        return Drawing(name, alt, caption, inline_svg(svg, name, alt, titles or {}), points=bool(titles), slim=small)

    def picture(self, figure: Figure, name: str, alt: str, caption: str = "") -> Drawing:
        """Put a figure of scans into the page as PNG; see :meth:`vector`."""
        return Drawing(name, alt, caption, _image(self._files(figure, name)[0], alt), wide=False)

    def file(self, path: Path, name: str, alt: str, caption: str = "") -> Drawing:
        """Put a PNG file that is there already into the page; see :meth:`vector`.

        Raises:
            OSError: when it cannot be read.
            ValueError: when it is no PNG file, or so large that the page would be.
        """
        if path.stat().st_size > _LARGEST_PICTURE:
            raise ValueError(f"{path.name} is larger than {_LARGEST_PICTURE} bytes")
        content = path.read_bytes()
        if not content.startswith(b"\x89PNG"):
            raise ValueError(f"{path.name} is no PNG file")
        return Drawing(name, alt, caption, _image(content, alt))

    def _files(self, figure: Figure, name: str) -> tuple[bytes, str]:
        png = io.BytesIO()
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
        svg = _svg(figure, name)
        self.folder.mkdir(exist_ok=True)
        atomic_write(self.folder / f"{name}.png", lambda stream: stream.write(png.getvalue()))
        atomic_write(self.folder / f"{name}.svg", lambda stream: stream.write(svg.encode()))
        self.names.append(name)
        return png.getvalue(), svg


def inline_svg(svg: str, name: str, alt: str, titles: Mapping[str, str]) -> Markup:
    """Return matplotlib's SVG as a part of a page: no identifier of another figure, the page's inks and letters.

    Args:
        svg: the file.
        name: of the figure, which no other one of the page has.
        alt: what it shows.
        titles: see :meth:`Drawings.vector`.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    # its rule for `*` would hold for the whole page
    svg = re.sub(r"<style[^>]*>.*?</style>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', _opening(name, alt), svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(?:xlink:)?href="#([^"]*)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", svg)
    for colour, ink in _INKS.items():
        svg = svg.replace(f": {colour}", f": var(--{ink})")
    svg = _FONT.sub("var(--letters)", svg)
    for gid, words in titles.items():
        svg = svg.replace(f'<g id="{name}-{gid}">', f'<g id="{name}-{gid}"><title>{escape(words)}</title>', 1)
    return Markup(svg)


def _svg(figure: Figure, name: str) -> str:
    svg = io.BytesIO()
    # text stays text, and identifiers follow from what is drawn instead of a random number
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})
    return svg.getvalue().decode()


def _opening(name: str, alt: str) -> str:
    title = str(escape(alt)).replace("\\", r"\\")
    return rf'<svg viewBox="\1" role="img" aria-labelledby="alt"><title id="alt">{title}</title>'.replace(
        'aria-labelledby="alt"', f'aria-labelledby="{name}-alt"'
    )


def _image(png: bytes, alt: str) -> Markup:
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    data = base64.b64encode(png).decode()
    return Markup('<img alt="{}" width="{}" height="{}" src="data:image/png;base64,{}">').format(
        alt, width, height, data
    )
