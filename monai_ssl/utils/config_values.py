"""Values that come from outside and go into a bundle's config, where text may be code: plain ones pass.

No MONAI and no torch before a component is judged, so that the command line stays fast.
"""

from __future__ import annotations

import pydoc
from collections.abc import Collection, Iterator
from typing import Any

from monai_ssl.utils.errors import UserError

__all__ = ["check_components", "check_values", "targets_in"]

# of a config: an expression, a reference, text of another file
_CODE = ("$", "@", "%")
_TARGET = "_target_"
_DEPTH = 20
# by the setting that may name components: where their classes are defined
_COMPONENTS = {
    "network_def": ("monai.networks", "monai_ssl.networks", "torch.nn"),
    "heads": ("monai.networks", "monai_ssl.networks", "torch.nn"),
    "masking": ("monai_ssl.transforms",),
}


def check_values(value: Any, where: str = "the request", depth: int = 0, components: Collection[str] = ()) -> None:
    """Refuse values that a bundle's config would take for code: they would run.

    Args:
        value: what came from outside: text, numbers, lists and dictionaries of them.
        where: begins the message.
        depth: of ``value``.
        components: what a ``_target_`` may be; none by default.

    Raises:
        UserError: for text that begins with ``$``, ``@`` or ``%``, for a key that begins with one of them or with
            ``_``, as ``_target_`` does, and for more than twenty levels.
    """
    if depth > _DEPTH:
        raise UserError(f"{where}: is nested too deeply.")
    if isinstance(value, str) and value.lstrip().startswith(_CODE):
        raise UserError(
            f"{where}: {value[:60]!r} begins with $, @ or %, which is code in a config. Give a plain value."
        )
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == _TARGET and isinstance(inner, str) and inner in components:
                continue
            if str(name).lstrip().startswith((*_CODE, "_")):
                raise UserError(f"{where}: the key {str(name)[:60]!r} is code in a config. Give plain values.")
            check_values(inner, f"{where}, {name}", depth + 1, components)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            check_values(inner, where, depth + 1, components)


def check_components(values: dict[str, Any], where: str, known: Collection[str] = ()) -> None:
    """Refuse a ``preprocessing.json`` that would run code: weights come from others together with it.

    Its ``network_def``, ``heads`` and ``masking`` name components. These may be classes of MONAI's, torch's and our
    networks, and our transforms; a name that only leads there, such as a function of a module they import, is none.

    Args:
        values: its content.
        where: begins the message.
        known: components that the bundle's own config names, which its user trusts already.

    Raises:
        UserError: for any other component, and as :func:`check_values` does.
    """
    for name, value in values.items():
        if not name.isidentifier() or name.startswith("_"):
            raise UserError(f"{where}: {name[:60]!r} is no name of a setting. Restore the file from the training run.")
        homes = _COMPONENTS.get(name, ())
        components = {target for target in targets_in(value) if target in known or _is_class_of(target, homes)}
        strange = next((target for target in targets_in(value) if target not in components), None)
        if strange is not None:
            raise UserError(
                f"{where}: {name} would make {strange[:80]!r}, and a file beside weights may name nothing but "
                "networks of MONAI, torch and monai_ssl. If you trust it, name it in the bundle's own config or by "
                f"--{name}#_target_."
            )
        check_values(value, f"{where}, {name}", components=components)


def targets_in(value: Any) -> Iterator[str]:
    """Every ``_target_`` in a value of a config.

    Args:
        value: plain; one that is nested more deeply than :func:`check_values` allows is not followed to its end.
    """
    level = [value]
    for _ in range(_DEPTH + 2):
        for entry in level:
            if isinstance(entry, dict) and isinstance(entry.get(_TARGET), str):
                yield entry[_TARGET]
        level = [
            inner
            for entry in level
            for inner in (
                entry.values() if isinstance(entry, dict) else entry if isinstance(entry, (list, tuple)) else ()
            )
        ]


def _is_class_of(target: str, homes: tuple[str, ...]) -> bool:
    inside = tuple(f"{home}." for home in homes)
    if not target.startswith(inside):
        return False
    from monai.transforms import Transform
    from torch import nn

    try:
        found = pydoc.locate(target)
    except pydoc.ErrorDuringImport:
        return False
    is_component = isinstance(found, type) and issubclass(found, (nn.Module, Transform))
    return is_component and f"{found.__module__}.".startswith(inside)
