"""Data lists and splits, two-stream batches, scans to predict, generated volumes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from monai_ssl.data.boxes import box_source
from monai_ssl.data.cases import load_cases
from monai_ssl.data.classes import check_box_classes, check_class_names, object_names
from monai_ssl.data.datalist import channel_count, class_names
from monai_ssl.data.images import images_to_learn_from, images_to_predict
from monai_ssl.data.leaks import check_leaks

if TYPE_CHECKING:
    from monai_ssl.data.check_training import check_scans
    from monai_ssl.data.readers import ScanReader
    from monai_ssl.data.scans import ScanDataset
    from monai_ssl.data.seen_scans import warn_of_seen_scans, write_seen_scans
    from monai_ssl.data.two_stream import TwoStreamLoader

__all__ = [
    "ScanDataset",
    "ScanReader",
    "TwoStreamLoader",
    "box_source",
    "channel_count",
    "check_box_classes",
    "check_class_names",
    "check_leaks",
    "check_scans",
    "class_names",
    "images_to_learn_from",
    "images_to_predict",
    "load_cases",
    "object_names",
    "warn_of_seen_scans",
    "write_seen_scans",
]

_HEAVY = {
    "check_scans": "monai_ssl.data.check_training",
    "ScanDataset": "monai_ssl.data.scans",
    "ScanReader": "monai_ssl.data.readers",
    "TwoStreamLoader": "monai_ssl.data.two_stream",
    "warn_of_seen_scans": "monai_ssl.data.seen_scans",
    "write_seen_scans": "monai_ssl.data.seen_scans",
}


def __getattr__(name: str) -> Any:
    # MONAI comes in only with what needs it, so that `monai-ssl split` answers at once
    if name in _HEAVY:
        return getattr(importlib.import_module(_HEAVY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
