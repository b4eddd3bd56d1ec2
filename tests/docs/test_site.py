"""What can be checked of the site without Sphinx, which `make docs` needs and the tests do not."""

from __future__ import annotations

import configparser
import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS / "_ext"))

from repository_links import rewritten  # noqa: E402
from self_contained import fetched  # noqa: E402


@pytest.mark.parametrize(
    "line",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        '<link rel="stylesheet" type="text/css" href="//fonts.example.org/css" />',
        '<link href="http://example.org/a.css" rel="stylesheet">',
        '<img alt="" src="https://example.org/badge.svg">',
        "<style>@import 'https://example.org/a.css';</style>",
        "<style>a { background: url(https://example.org/a.png) }</style>",
    ],
)
def test_what_is_fetched_from_elsewhere_is_found(line: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(f"<p>\n{line}\n</p>")
    (found,) = fetched(tmp_path)
    assert found.startswith("page.html: ")


def test_links_to_follow_and_own_files_are_not_fetched_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '<a href="https://monai.io">MONAI</a><script src="_static/a.js"></script><link rel="stylesheet" href="a.css">'
        '<link rel="canonical" href="https://example.org/page"><img src="../a.png">'
    )
    (tmp_path / "a.css").write_text("a { background: url(a.png) }")
    assert list(fetched(tmp_path)) == []


def test_links_of_a_checkout_lead_to_pages_or_files() -> None:
    bundle = ROOT / "bundles" / "semi_segmentation"
    assert rewritten("[a](../../../docs/results.md#x)", bundle / "docs") == "[a](/results.md#x)"
    assert rewritten("[a](data_license.txt)", bundle / "docs") == (
        "[a](/../bundles/semi_segmentation/docs/data_license.txt)"
    )
    assert rewritten("[a](../bundles/ssl_pretraining/docs/README.md)", DOCS) == "[a](/bundles/ssl_pretraining.md)"
    assert rewritten("[a](docs/results.md)", ROOT) == "[a](/results.md)"
    for kept in ("[a](#part)", "[a](https://monai.io)", "[a](gone.md)"):
        assert rewritten(kept, DOCS) == kept


def test_the_advice_has_no_figure_that_was_not_measured() -> None:
    advice = (DOCS / "choose_method.md").read_text()
    figures = set(re.findall(r"\d+\.\d+", advice))
    assert len(figures) > 30
    results = set(re.findall(r"\d+\.\d+", (DOCS / "results.md").read_text()))
    assert figures - results == set()


def test_the_advice_names_every_method_of_the_segmentation() -> None:
    advice = (DOCS / "choose_method.md").read_text()
    for path in (ROOT / "bundles/semi_segmentation/configs/methods").glob("*.yaml"):
        assert f"`{path.stem}`" in advice, path.stem


def test_the_reference_has_every_layer_with_public_names() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packages = [name for name in setup["options"]["packages"].split() if name.startswith("monai_ssl.")]
    layers = {name for name in packages if name not in ("monai_ssl.bundles", "monai_ssl.cli")}
    public = {name for name in layers if hasattr(importlib.import_module(name), "__all__")}
    pages = {path.stem: path.read_text() for path in (DOCS / "api").glob("*.md")}
    shown = {match for text in pages.values() for match in re.findall(r"automodule:: (\S+)", text)}
    assert public <= shown
    assert {f"monai_ssl.{name}" for name in pages if name != "index"} == public | {"monai_ssl.utils"}
    listed = re.findall(r"^(\w+)$", pages["index"], re.MULTILINE)
    assert sorted(listed) == sorted(set(pages) - {"index"})
