"""What a bundle's config calls before anything else: settings checked, errors in one line, a trained model's values."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from monai_ssl.utils.allocator import keep_freed_memory
from monai_ssl.utils.config_values import check_components, targets_in
from monai_ssl.utils.errors import UserError, show_user_errors_as_one_line
from monai_ssl.utils.fingerprint import file_digest, fingerprint
from monai_ssl.utils.given_settings import check_given, entry
from monai_ssl.utils.weight_files import read_plain
from monai_ssl.utils.workflow import created_from, overrides, plain_values, running_workflow

__all__ = [
    "UNTRAINED",
    "as_bool",
    "autocast_arguments",
    "epochs",
    "file_digest",
    "fingerprint",
    "inside_monai_label",
    "is_untrained",
    "overrides",
    "plain_values",
    "prepare",
]

logger = logging.getLogger(__name__)

UNTRAINED = "untrained"
"""Entry beside ``model`` in a file of weights that nothing was trained with."""


def as_bool(value: Any) -> bool:
    """A switch from a config or the command line, where ``false`` arrives as a string.

    Raises:
        UserError: when the value is neither true nor false.
    """
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off", "none", ""):
        return False
    raise UserError(f"a switch must be true or false, got {value!r}.")


def autocast_arguments(amp: Any) -> dict[str, Any] | None:
    """Arguments of ``torch.autocast`` for a setting of mixed precision.

    Args:
        amp: a switch, where true takes the device's own (float16 on a GPU, bfloat16 on a CPU), or ``float16`` or
            ``bfloat16``.

    Returns:
        None where it is off.

    Raises:
        UserError: when it is none of these.
    """
    if str(amp).strip() in (choices := ("float16", "bfloat16")):
        return {"dtype": getattr(torch, str(amp).strip())}
    try:
        return {} if as_bool(amp) else None
    except UserError:
        raise UserError(f"amp must be true, false, {' or '.join(choices)}, got {amp!r}.") from None


def prepare(
    debug: Any = False, weights: str | os.PathLike[str] | None = None, device: Any = "cpu", **choices: Iterable[Any]
) -> None:
    """First line of every bundle's ``initialize``.

    Refuses settings that the config files do not have and text for their numbers, prints our errors as one line, and,
    where weights are given, takes the values of the ``preprocessing.json`` beside them into the config. On a CPU freed
    memory is kept.

    Args:
        debug: true keeps tracebacks.
        weights: the ``model.pt`` or ``model.safetensors`` that this workflow uses, if it uses one.
        device: must exist on this machine.
        choices: by setting, its possible values.

    Raises:
        SystemExit: with one line: for an unknown setting, with the nearest known one; for text where the file has a
            number; for a value that is no choice;
            for a setting that contradicts what the weights were trained with, or values beside them that are code;
            for a device that is not there.
    """
    if not as_bool(debug):
        show_user_errors_as_one_line()
    try:
        if (files := created_from()) is not None:
            check_given(overrides(), ConfigParser.load_config_files(files))
        _check_device(device)
        if weights is not None:
            _use_trained_values(Path(weights))
        for name, allowed in choices.items():
            _check_choice(name, list(allowed))
    except UserError as error:
        raise SystemExit(f"Error: {error}") from None
    if torch.device(device).type == "cpu":
        keep_freed_memory()


def inside_monai_label() -> bool:
    """Whether this process belongs to a MONAI Label server."""
    return bool(os.environ.get("MONAI_LABEL_APP_DIR"))


def is_untrained(path: str | os.PathLike[str]) -> bool:
    """Whether a file of weights says that nothing was trained with them; the first training replaces such a file.

    Args:
        path: of the file. One that is missing or cannot be read says nothing; who loads it will tell.
    """
    try:
        content = read_plain(path)
    except Exception:
        return False
    return isinstance(content, dict) and content.get(UNTRAINED) is True


def epochs(max_steps: int, epoch_length: int) -> int:
    """How many epochs of ``epoch_length`` optimiser steps make ``max_steps``.

    Raises:
        UserError: when one is no number or below 1, or ``max_steps`` is no multiple, with both neighbours.
    """
    try:
        max_steps, epoch_length = int(max_steps), int(epoch_length)
    except (TypeError, ValueError):
        raise UserError(f"max_steps and epoch_length take numbers, got {max_steps!r} and {epoch_length!r}.") from None
    if min(max_steps, epoch_length) < 1:
        raise UserError(f"max_steps and epoch_length must be 1 or more, got {max_steps} and {epoch_length}.")
    count, rest = divmod(max_steps, epoch_length)
    if count < 1 or rest:
        below, above = count * epoch_length, (count + 1) * epoch_length
        choices = f"{below} or {above}" if below else f"{above}"
        raise UserError(f"max_steps must be a multiple of epoch_length {epoch_length}, got {max_steps}: use {choices}.")
    return count


def _check_device(device: Any) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"device {device} is not there ({reason}). Leave out --device, or give --device cpu."
        ) from error


def _check_choice(name: str, allowed: list[Any]) -> None:
    value = plain_values(name)[name]
    if value not in allowed:
        raise UserError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}.")


def _use_trained_values(weights: Path) -> None:
    if not weights.is_file():
        raise UserError(f"{weights}: there are no weights here. Train first, or give --weights RUN/model.pt.")
    path = weights.with_name("preprocessing.json")
    if not path.is_file():
        if not (inside_monai_label() or is_untrained(weights)):
            logger.warning(
                f"{weights}: there is no {path.name} beside it; it is taken for trained with the values of this config"
            )
        return
    try:
        trained = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not valid JSON ({error}). Restore it from the training run.") from error
    if not isinstance(trained, dict):
        raise UserError(f"{path}: must hold a JSON object. Restore it from the training run.")
    parser = running_workflow().parser
    # the values become a part of the config, where text can be code
    check_components(trained, str(path), set(targets_in([parser.get(name) for name in trained])))
    for name, given in overrides().items():
        top, *inner = name.split("::")
        if top in trained:
            asked, value = json.loads(json.dumps(given, default=str)), entry(trained[top], inner)
            if asked != value:
                raise UserError(f"{name} {asked} contradicts {path}, which says {value}. Leave the setting out.")
    for name, value in trained.items():
        parser[name] = value
    parser.parse(reset=True)
