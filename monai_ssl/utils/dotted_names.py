"""Which dotted names of a config stay inside MONAI, torch, ignite and monai_ssl, going by the names alone."""

from __future__ import annotations

import re
import sys

__all__ = ["INSIDE", "doubt_of"]

INSIDE = ("monai", "monai_ssl", "torch", "ignite")
"""Packages whose names are not marked."""

# modules of Python whose names those packages use for parts of their own
_SHARED = {"random", "types", "signal", "array", "profile", "statistics", "queue", "test", "token", "copy", "code"}
# what runs, loads or downloads whatever it is given
_POWERS = re.compile(
    r"torch\.(hub|package|classes|ops|load|save|serialization|jit\.load|export\.load|testing|_\w*)(\.|$)"
    r"|torch\.utils\.(cpp_extension|model_zoo|bottleneck|collect_env|_\w*)(\.|$)"
    r"|torch\.distributed\.(run|launch|launcher|elastic|rpc)(\.|$)"
    r"|monai\.(bundle|fl|auto3dseg|_\w*)(\.|$)"
    r"|monai\.apps\.(?!detection|pathology|reconstruction|deepedit|deepgrow|nuclick|vista3d|generation)\w*"
    r"|monai\.utils\.(module|jupyter_utils|component_store)(\.|$)|monai\.networks\.trt_compiler(\.|$)"
    r"|monai(\.\w+)*\.(optional_import|load_submodules|instantiate|run_cmd|run_debug|pickle_\w+|download\w*)(\.|$)"
    r"|monai_ssl\.(cli|label|study)(\.|$)"
)


def doubt_of(name: str) -> str:
    """Say why a dotted name may lead out of the packages, or to what runs anything; empty where nothing speaks for it.

    It is a judgement of names. What a function does with its arguments is not looked at.

    Args:
        name: such as ``monai.networks.nets.UNet``.
    """
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return "is no dotted name"
    if len(parts) == 1 and parts[0] not in INSIDE:
        return "is a bare name, which MONAI looks up among all classes it knows"
    if parts[0] not in INSIDE:
        return f"is none of {', '.join(INSIDE)}"
    through = next((part for part in parts[1:] if _leads_out(part)), None)
    if through is not None:
        return f"leads through {through} out of {parts[0]}"
    if _POWERS.match(name):
        return "can load, download or start other code"
    return ""


def _leads_out(part: str) -> bool:
    return part.startswith("__") or (part in sys.stdlib_module_names and part not in _SHARED)
