"""Data lists and splits, two-stream batches, scans to predict, generated volumes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from monai_ssl.data.datalist import check_leaks, class_names, load_cases
from monai_ssl.data.images import images_to_predict

if TYPE_CHECKING:
    from monai_ssl.data.two_stream import TwoStreamLoader

__all__ = ["TwoStreamLoader", "check_leaks", "class_names", "images_to_predict", "load_cases"]


def __getattr__(name: str) -> Any:
    # torch comes in only with the loader, so that `monai-ssl split` answers at once
    if name == "TwoStreamLoader":
        return importlib.import_module("monai_ssl.data.two_stream").TwoStreamLoader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
