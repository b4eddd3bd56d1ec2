"""Pictures of a report page as Chromium shows it: a wide window, a narrow one, and a dark one.

    python benchmarks/screenshots.py demo/TIME/study/report.html docs/report

writes ``docs/report_desktop.png`` (1280 pixels wide), ``docs/report_narrow.png`` (420) and ``docs/report_dark.png``:
the first screen of each, with ``--whole`` the whole page, and with ``--at viewer`` the screen at that section.
A viewer is waited for until it has drawn. ``MONAI_SSL_CHROMIUM`` names the program where it is not on the path.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from browser import Browser, chromium, find_chromium
from PIL import Image

WINDOWS = {"desktop": (1280, False), "narrow": (420, False), "dark": (1280, True)}  # pixels across, dark


def take(browser: Browser, page: Path, window: str, *, whole: bool, section: str | None) -> Image.Image:
    """The page in one of the windows."""
    width, dark = WINDOWS[window]
    browser.open(page, width=width, dark=dark)
    if section is not None:
        if not browser.evaluate(f"Boolean(document.getElementById({section!r}))"):
            raise SystemExit(f"Error: {page} has no section {section!r}.")
        browser.evaluate(f"document.getElementById({section!r}).scrollIntoView()")
    if browser.evaluate("Boolean(document.getElementById('viewer-canvas'))") and (whole or section == "viewer"):
        browser.evaluate("document.getElementById('viewer').scrollIntoView()")
        browser.wait_for("Boolean(document.getElementById('viewer-canvas').dataset.ready)")
    # two frames: what a script has changed is in the second
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return Image.fromarray(browser.screenshot(whole=whole))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("page", type=Path, help="the HTML file")
    parser.add_argument("output", type=Path, help="beginning of the names of the pictures")
    parser.add_argument("--whole", action="store_true", help="the whole page instead of its first screen")
    parser.add_argument("--at", metavar="SECTION", help="the screen at a section, such as viewer")
    arguments = parser.parse_args()
    try:
        find_chromium()
        page = arguments.page.resolve(strict=True)
    except FileNotFoundError as error:
        sys.exit(f"Error: {error}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    # children of the browser may still write into its profile when it is gone
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, chromium(Path(profile)) as browser:
        for window in WINDOWS:
            picture = take(browser, page, window, whole=arguments.whole, section=arguments.at)
            path = arguments.output.with_name(f"{arguments.output.name}_{window}.png")
            picture.save(path, optimize=True)
            print(f"Wrote {path} ({picture.width} x {picture.height})")


if __name__ == "__main__":
    main()
