"""What decides a run's numbers, by name: a resumed run must have the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_ssl.utils.files import sha256_of
from monai_ssl.utils.workflow import running_workflow

# what may differ between a run and its resumption
_NOT_IN_FINGERPRINT = {
    *("bundle_root", "dataset_dir", "datalist", "output_dir", "run_dir", "device", "num_workers", "cache_rate", "rank"),
    *("resume", "overwrite", "check", "debug", "non_finite", "save_interval", "val_interval", "tolerance_mm", "_meta_"),
    *("watch_interval", "watch_cases", "probe", "watch"),
    *("imports", "initialize", "run", "finalize", "settings", "fingerprint", "validate", "train::handlers"),
    *("train::dataset::data", "train::unlabeled_dataset::data"),
}


def fingerprint(
    labeled: Iterable[Mapping[str, Any]], unlabeled: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]
) -> dict[str, str]:
    """Everything that decides a run's numbers, by name: every setting but paths and machinery, and the case lists.

    Args:
        labeled: the labelled cases.
        unlabeled: the unlabelled cases.
        settings: values that stand in place of the config's expressions for them; see
            :func:`~monai_ssl.utils.workflow.plain_values`.
    """
    leaves = dict(_leaves("", {**running_workflow().parser.get(), **settings}))
    return {**leaves, "labelled cases": _list_hash(labeled), "unlabelled cases": _list_hash(unlabeled)}


def file_digest(path: str | os.PathLike[str] | None) -> str:
    """The content of a file that decides a run's numbers, for :func:`fingerprint`: wherever it lies, it is the same.

    Args:
        path: the file, or None for none; one that is not there is told by whoever reads it.
    """
    if not path:
        return "none"
    try:
        return sha256_of(path)[:12]
    except OSError:
        return Path(path).name


def _leaves(prefix: str, value: Any) -> Iterable[tuple[str, str]]:
    if prefix in _NOT_IN_FINGERPRINT:
        return
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _leaves(f"{prefix}::{name}" if prefix else str(name), entry)
    elif isinstance(value, (list, tuple)) and any(isinstance(entry, (dict, list)) for entry in value):
        for index, entry in enumerate(value):
            yield from _leaves(f"{prefix}::{index}", entry)
    else:
        yield prefix, str(list(value) if isinstance(value, tuple) else value)


def _list_hash(cases: Iterable[Mapping[str, Any]]) -> str:
    # folder and file name: a data set that was moved as a whole is the same list
    names = [["/".join(Path(str(case[key])).parts[-2:]) for key in sorted(case)] for case in cases]
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]
    return f"{len(names)} ({digest})"
