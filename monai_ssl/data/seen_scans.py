"""Which scans a pretraining saw, so that a downstream run can say whether its held-out scans are unseen."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_ssl.data.datalist import find_datalist, read_datalist
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import write_json
from monai_ssl.utils.keys import ListParts, RunFiles

__all__ = ["warn_of_seen_scans", "write_seen_scans"]

logger = logging.getLogger(__name__)

_HELD_OUT = (ListParts.VALIDATION, ListParts.TEST)
_SHOWN = 3  # file names that the warning has


def write_seen_scans(path: str | os.PathLike[str], cases: Iterable[Mapping[str, Any]]) -> None:
    """Write which scans a pretraining sees, without any readable name or path.

    A scan is known by its folder's and its own name, as in a run's fingerprint, so that a data set that was moved as a
    whole is the same; of their text, ``folder/file``, the first 16 hexadecimal digits of the SHA-256 are written. Who
    knows a name can look it up, and nobody can read one. ``count`` is the number of files; it is above that of
    ``scans`` where folder and file name do not tell them apart.

    Args:
        path: of the JSON file ``{"count": N, "scans": [...]}``, beside the weights.
        cases: those of the ``unlabeled`` part, each with ``image``; nothing is opened.
    """
    files = {os.path.abspath(case["image"]) for case in cases}
    write_json(path, {"count": len(files), "scans": sorted({_identity(file) for file in files})})


def warn_of_seen_scans(
    pretrained: str | os.PathLike[str],
    datalist: str | os.PathLike[str] | None,
    dataset_dir: str | os.PathLike[str] | None = None,
) -> dict[str, int]:
    """Warn, once, of validation and test scans that the pretraining of the weights saw; nothing is opened.

    Args:
        pretrained: the weights, beside which a pretraining leaves ``seen_scans.json``.
        datalist: as in :func:`~monai_ssl.data.datalist.find_datalist`.
        dataset_dir: folder that the list's paths are relative to; if None, the list's own folder.

    Returns:
        The number of scans that were seen, by part; empty where it cannot be told.

    Raises:
        UserError: when ``seen_scans.json`` is broken, or there is no readable data list.
    """
    file = Path(pretrained).parent / RunFiles.SEEN_SCANS
    if not file.is_file():
        logger.info(f"{file}: is not there; it cannot be told whether the pretraining saw validation or test scans")
        return {}
    known, files = _read(file)
    path = find_datalist(datalist, dataset_dir)
    base, content = Path(dataset_dir or path.parent), read_datalist(path, class_labels=True, boxes=True)
    images = {str(part): [base / entry["image"] for entry in content.get(part, [])] for part in _HELD_OUT}
    seen = {part: [image for image in found if _identity(image) in known] for part, found in images.items()}
    counts = " and ".join(
        f"{len(found)} of the {len(images[part])} scans of `{part}`" for part, found in seen.items() if found
    )
    if counts:
        names = [image.name for found in seen.values() for image in found]
        doubt = (
            f" ({files} scans of it share {len(known)} such names: some may be others)" if files > len(known) else ""
        )
        logger.warning(
            f"{path}: the pretraining of {pretrained} saw {counts} ({', '.join(names[:_SHOWN])}"
            f"{', ..' if len(names) > _SHOWN else ''}), going by folder and file name{doubt}. It saw no label, but "
            "these are no unseen scans, and scores on them may be too good. Pretrain on a list whose `unlabeled` is "
            "without them."
        )
    return {part: len(found) for part, found in seen.items()}


def _identity(image: str | os.PathLike[str]) -> str:
    # the absolute path, for a file that is named without its folder has one, too
    name = "/".join(Path(os.path.abspath(image)).parts[-2:])
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _read(file: Path) -> tuple[set[str], int]:
    remedy = "Restore it from the pretraining, or remove it."
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        scans, count = content["scans"], content["count"]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read as JSON ({error}). {remedy}") from error
    except (KeyError, TypeError):
        scans = count = None
    if not (isinstance(count, int) and isinstance(scans, list) and all(isinstance(scan, str) for scan in scans)):
        raise UserError(f"{file}: must be a JSON object of `count`, a number, and `scans`, a list of strings. {remedy}")
    return set(scans), count
