"""One row of numbers a scan, for whole loaders of scans."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_ssl.engines.prepare_batch import prepare_streams
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write

__all__ = ["describe_scans", "write_embeddings"]

logger = logging.getLogger(__name__)

Describer = Callable[[Tensor], Any]


def describe_scans(
    loader: Iterable[Mapping[str, Any]], describers: Mapping[str, Describer], device: str | torch.device = "cpu"
) -> dict[str, NDArray[np.float64]]:
    """Describe every scan in several ways; each scan is read once.

    Args:
        loader: gives ``{"image": (1, C, H, W[, D])}``, one scan at a time.
        describers: by name, a scan to ``(1, F)``, such as :class:`~monai_ssl.networks.frozen_features.TiledVector` on
            the same device, or :func:`~monai_ssl.metrics.probes.intensity_statistics`.
        device: where the scans go.

    Returns:
        By name, ``(N, F)`` in the order of the loader.

    Raises:
        UserError: when there is no scan, or a description is not finite.
    """
    rows: dict[str, list[NDArray[np.float64]]] = {name: [] for name in describers}
    for number, batch in enumerate(loader, 1):
        image = prepare_streams({"scan": batch}, device)["scan"]["image"]
        for name, describe in describers.items():
            with torch.no_grad():
                row = describe(image)
            row = np.asarray(row.cpu() if isinstance(row, Tensor) else row, dtype=float).reshape(-1)
            if not np.isfinite(row).all():
                raise UserError(
                    f"the {name} features of scan {number} are not finite: the weights or the scan hold NaN."
                )
            rows[name].append(row)
    if not all(rows.values()):
        raise UserError("there is no scan to describe. Name a list or a folder with scans.")
    return {name: np.stack(found) for name, found in rows.items()}


def write_embeddings(
    path: str | os.PathLike[str],
    loader: Iterable[Mapping[str, Any]],
    describe: Describer,
    cases: Sequence[str],
    device: str | torch.device = "cpu",
    overwrite: bool = False,
) -> None:
    """Write ``embeddings.csv``: a row a scan with ``case``, ``f0``, ``f1``, ...

    Args:
        path: the file; its folder is made.
        loader: see :func:`describe_scans`.
        describe: a scan to its vector.
        cases: the scans' names, in the order of the loader.
        device: where the scans go.
        overwrite: whether the file may be replaced.

    Raises:
        UserError: when the file is there already, or as :func:`describe_scans`.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise UserError(f"{target}: is there already. Give --overwrite true or another --output_dir.")
    table = describe_scans(loader, {"encoder's": describe}, device)["encoder's"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", *(f"f{number}" for number in range(table.shape[1]))])
    writer.writerows([case, *(f"{value:.7g}" for value in row)] for case, row in zip(cases, table, strict=True))
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(target, lambda stream: stream.write(text.getvalue().encode()))
    logger.info(f"{target}: {table.shape[0]} scans, {table.shape[1]} features each")
