"""``{bundle-settings} NAME FILE``: the settings of a bundle's config as tables, read from the YAML and its comments.

The config is the only place where a setting is explained, so a page cannot say anything else than it does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from config_comments import Setting, read_settings
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

BUNDLES = Path(__file__).parents[2] / "bundles"
LONG = 60


class BundleSettings(SphinxDirective):
    """The tables, one a heading of the config; comments that another config lacks come from ``train.yaml``."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        name, file = self.arguments
        configs = BUNDLES / name / "configs"
        for path in {configs / file, configs / "train.yaml"}:
            self.env.note_dependency(str(path))
        trained = {setting.name: setting.comment for setting in read_settings(configs / "train.yaml")}
        settings = read_settings(configs / file)
        content: list[str] = []
        for section in dict.fromkeys(setting.section for setting in settings):
            own = [setting for setting in settings if setting.section == section]
            content += self.table(section, own, trained)
        wiring = [f"`{s.name}`" for s in settings if s.is_wiring and not trained.get(s.name)]
        if wiring:
            content += ["", f"Connected by the config, and hardly ever set: {', '.join(wiring)}.", ""]
        return self.parse(content, str(configs / file))

    def table(self, section: str, settings: list[Setting], trained: dict[str, str]) -> list[str]:
        rows = [
            f"| `{s.name}` | {code(s.default)} | {cell(s.comment or trained.get(s.name, ''))} |"
            for s in settings
            if not s.is_wiring or trained.get(s.name)
        ]
        if not rows:
            return []
        title = ["", f"**{section[0].upper()}{section[1:]}**"] if section else []
        return [*title, "", "| setting | default | meaning |", "|---|---|---|", *rows, ""]

    def parse(self, content: list[str], source: str) -> list[nodes.Node]:
        parent: Any = nodes.Element()
        self.state.nested_parse(StringList(content, source=source), self.content_offset, parent)
        return list(parent.children)


def code(default: str) -> str:
    """A default as code; a long expression is called one."""
    if len(default) > LONG:
        return "an expression"
    return f"`{default}`".replace("|", "\\|") if default else ""


def cell(text: str) -> str:
    """Text as it stands, but for what is code: in Markdown ``<folder>`` is a tag and ``[^a]`` a footnote."""
    parts = text.replace("|", "\\|").split("`")
    parts[::2] = [re.sub(r"([<>*_\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def setup(app: Sphinx) -> dict[str, Any]:
    """Make the directive known."""
    app.add_directive("bundle-settings", BundleSettings)
    return {"version": "1", "parallel_read_safe": True}
