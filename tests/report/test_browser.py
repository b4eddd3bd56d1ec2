"""The page as a browser shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.browser import Browser, chromium, find_chromium
from monai_ssl.report.page import Written, write_report
from tests.report.pages import write_detector

READY = "Boolean(document.getElementById('viewer-canvas').dataset.ready)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    try:
        find_chromium()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def canvas(browser: Browser) -> np.ndarray:
    """The pixels of the viewer in the window."""
    place = "(() => { const r = document.getElementById('viewer-canvas').getBoundingClientRect(); "
    x, y, width, height = map(int, browser.evaluate(f"{place} return [r.x, r.y, r.width, r.height]; }})()"))
    return browser.screenshot()[max(y, 0) : y + height, x : x + width]


def test_the_viewer_shows_a_slice_and_nothing_leaves_the_page(browser: Browser, real_page: Written) -> None:
    browser.open(real_page.path)
    browser.evaluate("document.getElementById('viewer').scrollIntoView()")
    browser.wait_for(READY)
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    shown = canvas(browser).astype(int)
    grey = (np.ptp(shown, axis=-1) < 12) & (shown.mean(-1) > 40)
    coloured = (np.ptp(shown, axis=-1) > 60) & (shown.mean(-1) > 40)
    assert grey.mean() > 0.05, "no tissue is seen"
    assert coloured.mean() > 0.002, "no overlay is seen"
    browser.evaluate(
        "(() => { const s = document.getElementById('viewer-layer'); s.selectedIndex = s.length - 1; "
        "delete document.getElementById('viewer-canvas').dataset.ready; s.dispatchEvent(new Event('change')); })()"
    )
    browser.wait_for(READY)
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    bare = canvas(browser).astype(int)
    assert (np.abs(bare - shown).max(-1) > 20).mean() > 0.002, "the overlay does not go away"
    assert browser.complaints() == []
    asked = {address.partition(":")[0] for address in browser.requests()}
    assert asked <= {"file", "data", "blob"}
    assert {one for one in browser.requests() if one.startswith("file")} == {real_page.path.absolute().as_uri()}


def test_the_viewer_outlines_the_boxes_of_a_detector_and_the_page_fits_a_phone(
    browser: Browser, tmp_path: Path
) -> None:
    run, data = write_detector(tmp_path)
    page = write_report(run, given=data).path
    before = len(browser.complaints())
    browser.open(page, width=420)
    assert browser.evaluate("document.documentElement.scrollWidth") == 420
    browser.open(page)
    browser.evaluate("document.getElementById('viewer').scrollIntoView()")
    browser.wait_for(READY)
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    shown = canvas(browser).astype(int)
    blue = (shown[..., 2] - shown[..., 0] > 40) & (shown[..., 2] > 80)
    assert blue.mean() > 0.0005, "no true box is seen"
    assert browser.complaints()[before:] == []


@pytest.mark.parametrize("width", [320, 1280])
def test_the_page_does_not_scroll_sideways(browser: Browser, real_page: Written, width: int) -> None:
    browser.open(real_page.path, width=width)
    browser.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.evaluate("document.documentElement.scrollWidth") == width


def test_a_dark_page_is_dark_and_its_figures_can_be_read(browser: Browser, real_page: Written) -> None:
    means = {}
    for dark in (False, True):
        browser.open(real_page.path, dark=dark)
        means[dark] = browser.screenshot().mean()
        colour = "getComputedStyle(document.querySelector('#figure-curve svg text')).fill"
        lightness = np.mean([int(part) for part in browser.evaluate(colour)[4:-1].split(",")])
        assert abs(lightness - (255 if not dark else 20)) > 150, "letters as bright as the page"
    assert means[False] > 200
    assert means[True] < 70


def test_a_table_is_sorted_by_the_keyboard(browser: Browser, real_page: Written) -> None:
    browser.open(real_page.path)
    browser.evaluate("document.querySelector('#pairs details').open = true")
    button = "document.querySelectorAll('#pairs th button')[2]"
    column = "[...document.querySelectorAll('#pairs tbody tr')].map((row) => row.cells[2].textContent)"
    for order, name in ((1, "ascending"), (-1, "descending")):
        browser.evaluate(f"{button}.focus()")
        for kind in ("keyDown", "keyUp"):
            browser.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
            )
        assert browser.evaluate(f"{button}.closest('th').getAttribute('aria-sort')") == name
        values = [float(text) for text in browser.evaluate(column)]
        assert len(values) == 4
        assert values == sorted(values, reverse=order < 0)


def test_the_page_says_what_it_says_without_scripts(browser: Browser, real_page: Written) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(real_page.path)
        shown = "getComputedStyle(document.querySelector('.without-script')).display"
        assert browser.evaluate(shown) != "none"
        assert browser.evaluate("document.querySelector('.viewer').offsetHeight") == 0
        assert browser.evaluate("document.querySelectorAll('#runs tbody tr').length") > 0
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
