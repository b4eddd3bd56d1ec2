"""The texts of a config with their places, read without making anything of them and in bounded time."""

from __future__ import annotations

import configparser
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["CONFIG_ENDINGS", "LOGGING_ENDINGS", "Entry", "read_entries"]

CONFIG_ENDINGS = (".json", ".yaml", ".yml")
LOGGING_ENDINGS = (".conf", ".cfg", ".ini")
# bytes; PyYAML takes seconds for a quarter of a megabyte, and a config has a few hundredths
_LARGEST = {".json": 2**22, **dict.fromkeys((".yaml", ".yml", *LOGGING_ENDINGS), 2**18)}
_YAML_TAGS = "tag:yaml.org,2002:"
_PLAIN_TAGS = {"str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge", "value", "binary", "set"}
_PLAIN_TAGS |= {"omap", "pairs"}


@dataclass(frozen=True)
class Entry:
    """A text of a config, or what is wrong at a place.

    Attributes:
        place: MONAI's id of it, ``train::handlers::0``.
        text: the value.
        fault: what is wrong with the file or with its tag; empty where nothing is.
    """

    place: str
    text: str
    fault: str = ""


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON with all its keys, where one comes twice."""


def read_entries(path: Path) -> list[Entry]:
    """Return every text of a JSON or YAML file and of a configuration of logging, in their order.

    An alias of YAML is followed once, so that aliases of aliases cost nothing. Keys that come twice are all there.

    Args:
        path: a regular file with one of :data:`CONFIG_ENDINGS` or :data:`LOGGING_ENDINGS`.
    """
    ending = path.suffix.lower()
    try:
        if path.stat().st_size > _LARGEST[ending]:
            return [Entry("", "", f"is larger than {_LARGEST[ending]} bytes and was not looked at")]
        text = path.read_bytes().decode("utf-8-sig")
        if ending == ".json":
            return list(_of_json(json.loads(text, object_pairs_hook=_Pairs)))
        if ending in LOGGING_ENDINGS:
            return list(_of_logging(text))
        return list(_of_yaml(yaml.compose(text, Loader=yaml.SafeLoader)))
    except UnicodeDecodeError:
        fault = "is no UTF-8 text"
    except RecursionError:
        fault = "is nested too deeply and was not looked at"
    except (ValueError, yaml.YAMLError, configparser.Error, OSError) as error:
        fault = f"cannot be read as {ending[1:].upper()} ({type(error).__name__})"
    return [Entry("", "", fault)]


def _of_json(content: Any) -> Iterator[Entry]:
    left = [("", content)]
    while left:
        place, value = left.pop()
        if isinstance(value, str):
            yield Entry(place, value)
        elif isinstance(value, _Pairs):
            left.extend((_below(place, name), inner) for name, inner in reversed(value))
        elif isinstance(value, list):
            left.extend((_below(place, index), value[index]) for index in reversed(range(len(value))))


def _of_yaml(root: yaml.Node | None) -> Iterator[Entry]:
    left = [] if root is None else [("", root)]
    seen: set[int] = set()
    while left:
        place, node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if not _is_plain(node):
            yield Entry(place, node.tag.replace(_YAML_TAGS, "!!"), "is a tag that makes an object")
        if isinstance(node, yaml.ScalarNode):
            yield Entry(place, node.value)
        elif isinstance(node, yaml.MappingNode):
            # in the order of the file, so that an anchor is met before its aliases
            for key, value in reversed(node.value):
                scalar = isinstance(key, yaml.ScalarNode)
                left.append((_below(place, key.value if scalar else "?"), value))
                if not (scalar and _is_plain(key)):
                    left.append((place, key))
        elif isinstance(node, yaml.SequenceNode):
            left.extend((_below(place, index), node.value[index]) for index in reversed(range(len(node.value))))


def _is_plain(node: yaml.Node) -> bool:
    return node.tag.removeprefix(_YAML_TAGS) in _PLAIN_TAGS


def _of_logging(text: str) -> Iterator[Entry]:
    # what logging.config.fileConfig evaluates or imports
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(text)
    for section in parser.sections():
        for option in ("class", "args", "kwargs"):
            if parser.has_option(section, option):
                yield Entry(_below(section, option), parser.get(section, option))


def _below(place: str, name: object) -> str:
    return f"{place}::{name}" if place else str(name)
