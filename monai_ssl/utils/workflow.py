"""The workflow that a config's expressions run in: what was given beside the files, and plain values of its settings.

MONAI gives an expression in a config no handle on the config itself, so the workflow is found on the call stack.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow


def running_workflow() -> ConfigWorkflow:
    """The workflow whose config is being evaluated.

    Raises:
        RuntimeError: when none is.
    """
    frame = _frame(lambda f: isinstance(f.f_locals.get("self"), ConfigWorkflow))
    if frame is None:
        raise RuntimeError("this function is for expressions in the config of a running bundle workflow.")
    return frame.f_locals["self"]  # type: ignore[no-any-return]


def created_from() -> Any:
    """The config file, or files, of the workflow that is being created; None where none is."""
    frame = _creation()
    return frame.f_locals["config_file"] if frame else None


def overrides() -> dict[str, Any]:
    """The settings given beside the config files: ``--key value``, or MONAI Label's."""
    frame = _creation()
    known = inspect.signature(ConfigWorkflow.__init__).parameters
    # _args holds those of a file of arguments, too
    given: dict[str, Any] = dict(frame.f_locals.get("_args", {})) if frame else {}
    if isinstance(given.get("override"), dict):
        given |= given.pop("override")
    return {name.replace("#", "::"): value for name, value in given.items() if name not in known and value is not None}


def plain_values(*names: str) -> dict[str, Any]:
    """Settings of the running workflow with references and expressions replaced by their values.

    A component such as ``network_def`` comes out as its dictionary, not as an object.
    """
    parser = running_workflow().parser
    return {name: _plain(parser, name) for name in names}


def _plain(parser: ConfigParser, name: str) -> Any:
    value = parser.get(name)
    if isinstance(value, dict):
        return {key: _plain(parser, f"{name}::{key}") for key in value}
    if isinstance(value, (list, tuple)):
        return [_plain(parser, f"{name}::{index}") for index in range(len(value))]
    if isinstance(value, str) and value[:1] in ("$", "@"):
        value = parser.get_parsed_content(name)
        return list(value) if isinstance(value, tuple) else value
    return value


def _creation() -> FrameType | None:
    return _frame(lambda f: f.f_code.co_name == "create_workflow")


def _frame(matches: Callable[[FrameType], bool]) -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not matches(frame):
        frame = frame.f_back
    return frame
