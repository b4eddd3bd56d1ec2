"""The settings of a bundle's config with their defaults and comments, read from the YAML itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

# what is done, in which order: nothing that a run is told
STEPS = {"imports", "initialize", "run", "finalize"}
# said by their names; an expression by default
PLAIN = {"device", "output_dir"}


@dataclass(frozen=True)
class Setting:
    """A setting of a config.

    Attributes:
        name: as on the command line, ``objective#noise``.
        default: the YAML text of its value; empty where it is a block without a class.
        comment: what the config says of it.
        section: the heading of the config that it stands under.
    """

    name: str
    default: str
    comment: str
    section: str

    @property
    def is_wiring(self) -> bool:
        """Whether it connects other settings and says nothing by itself."""
        computed = self.default.lstrip("\"'")[:1] in {"", "$", "@", "%"} or "_target_" in self.default
        return not self.comment and computed and self.name not in PLAIN


def read_settings(path: Path) -> list[Setting]:
    """Every top-level setting of a config, and every commented one below."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    root = yaml.compose(text)
    headings = {number: match[1] for number, line in enumerate(lines) if (match := re.match(r"# --- (.+?) -*$", line))}
    found = []
    for key, value in root.value:
        if key.value in STEPS:
            continue
        before = [number for number in headings if number < key.start_mark.line]
        section = headings[before[-1]] if before else ""
        found.append(Setting(key.value, default_text(value, text), comment(key, value, lines), section))
        found += [Setting(*nested, section) for nested in below(key.value, value, text, lines)]
    return found


def below(path: str, node: yaml.Node, text: str, lines: list[str]) -> Iterator[tuple[str, str, str]]:
    """Name, default and comment of what has a comment within a block."""
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return
    for key, value in node.value:
        name = f"{path}#{key.value}"
        if said := comment(key, value, lines):
            yield name, default_text(value, text), said
        yield from below(name, value, text, lines)


def default_text(node: yaml.Node, text: str) -> str:
    """The value as it stands in the file; of a block its class, where it has one."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style:
        return " ".join(text[node.start_mark.index : node.end_mark.index].split())
    if isinstance(node, yaml.MappingNode):
        return next((f"{{_target_: {value.value}, ..}}" for key, value in node.value if key.value == "_target_"), "")
    return ""


def comment(key: yaml.Node, value: yaml.Node, lines: list[str]) -> str:
    """The comment behind a value, or behind the key of a block."""
    whole = value.start_mark.line == value.end_mark.line == key.start_mark.line
    mark = value.end_mark if whole else key.end_mark
    _, sign, said = lines[mark.line][mark.column :].partition("#")
    return said.strip() if sign else ""
