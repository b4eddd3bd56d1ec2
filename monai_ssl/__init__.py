"""Label-efficient learning for 3D medical images, as a MONAI plugin.

Subpackages are imported on first use, so that the command line answers at once and a bundle needs only
``import monai_ssl``.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["__version__"]

__version__ = "0.1.0"

_SUBPACKAGES = (
    *("data", "engines", "handlers", "losses", "metrics", "networks", "objectives", "study", "transforms", "utils"),
)


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
