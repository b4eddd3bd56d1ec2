"""Which scans to label next, from a data list and a trained network, as a file."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from monai_ssl.engines.embedding import Describer, describe_scans
from monai_ssl.metrics.acquisition import box_uncertainty, choose_scans, scan_uncertainty
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import write_json

__all__ = ["BoxUncertainty", "ScanUncertainty", "write_suggestions"]

logger = logging.getLogger(__name__)

Loader = Iterable[Mapping[str, Any]]


class ScanUncertainty:
    """How unsure a network is of a whole scan; see :func:`~monai_ssl.metrics.acquisition.scan_uncertainty`.

    Args:
        network: maps an image to logits; put into evaluation mode.
        inferer: runs it over a scan of any size, such as MONAI's ``SlidingWindowInferer``.
        share: of the voxels.

    Shape:
        - Input: ``(1, C, H, W[, D])``
        - Output: ``(1, 1)``
    """

    def __init__(self, network: nn.Module, inferer: Callable[..., Any], share: float = 0.05) -> None:
        self.network = network.eval()
        self.inferer = inferer
        self.share = share

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """The number."""
        probabilities = torch.softmax(self.inferer(images, self.network)[0].float(), dim=0)
        return torch.tensor([[scan_uncertainty(probabilities, self.share)]])


class BoxUncertainty:
    """How unsure detectors are of a whole scan; see :func:`~monai_ssl.metrics.acquisition.box_uncertainty`.

    Args:
        detectors: of :func:`~monai_ssl.networks.sliding_detector`, such as that of a teacher and that of its student,
            whose numbers are averaged; their networks are put into evaluation mode.
        count: number of boxes that count.

    Shape:
        - Input: ``(1, C, H, W, D)``
        - Output: ``(1, 1)``

    Raises:
        UserError: when ``count`` is below 1.
    """

    def __init__(self, detectors: Sequence[RetinaNetDetector], count: int = 5) -> None:
        if count < 1:
            raise UserError(f"boxes must be 1 or more, got {count}.")
        self.detectors = detectors
        self.count = count
        for detector in detectors:
            detector.network.eval()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """The number."""
        found = []
        for detector in self.detectors:
            window = detector.inferer.window  # type: ignore[union-attr]
            fits = all(side <= most for side, most in zip(images.shape[2:], window, strict=True))
            (boxes,) = detector(images, use_inferer=not fits)
            found.append(box_uncertainty(boxes[detector.pred_score_key].cpu().float(), self.count))
        return torch.tensor([[sum(found) / len(found)]])


class _Readable:
    """Scans of a loader that can be read; the others are named and counted out.

    Raises:
        UserError: when none of them can be read.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.broken: set[int] = set()

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        scans = iter(self.loader)
        last = ""
        for row in itertools.count():
            try:
                yield next(scans)
            except StopIteration:
                if row and len(self.broken) == row:
                    raise UserError(f"none of {row} scans can be used. The last: {last}") from None
                return
            except UserError as error:
                last = str(error)
                logger.warning(f"{last} It is passed over.")
                self.broken.add(row)


def write_suggestions(
    path: str | os.PathLike[str],
    strategy: str,
    count: int,
    cases: Sequence[str],
    unlabeled: Loader,
    labeled: Loader | None,
    uncertainty: Describer,
    embedding: Describer,
    *,
    device: str | torch.device = "cpu",
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Choose unlabelled scans to label next and write them, the first to be labelled first, as JSON.

    A strategy reads the scans that it needs, each once; ``random`` and ``first`` read none. A scan that cannot be read
    is named in a warning and passed over: it is not suggested, and the others are.

    Args:
        path: the file: ``strategy``, ``seed``, ``suggested`` (names of ``cases``), ``scans``, for each its ``case``,
            and ``uncertainty`` and ``distance`` to the nearest labelled scan as far as the strategy asks for them, and
            ``unreadable``, the cases that were passed over.
        strategy: see :func:`~monai_ssl.metrics.acquisition.choose_scans`.
        count: number of scans.
        cases: names of the unlabelled scans.
        unlabeled: gives ``{"image": (1, C, H, W[, D])}`` in the order of ``cases``.
        labeled: the same of the scans that have labels; None where there is none.
        uncertainty: a scan to a number, such as :class:`ScanUncertainty`.
        embedding: a scan to a vector, such as :class:`~monai_ssl.networks.frozen_features.TiledVector`.
        device: where the scans go.
        seed: of ``random``.
        overwrite: whether the file may be replaced.

    Returns:
        What was written.

    Raises:
        UserError: when there is no unlabelled scan or none can be read, the strategy is unknown, ``count`` is below 1,
            a description is not finite, or the file is there already.
    """
    if count < 1:
        raise UserError(f"count must be 1 scan or more, got {count}.")
    target = Path(path)
    if target.exists() and not overwrite:
        raise UserError(f"{target}: is there already. Give --overwrite true or another --output_dir.")
    if not cases:
        raise UserError("there is no unlabelled scan to suggest: the list's part `unlabeled` is empty.")
    asked: dict[str, Describer] = {"uncertainty": uncertainty} if "uncertainty" in strategy else {}
    if "coverage" in strategy:
        asked["features"] = embedding
    readable = _Readable(unlabeled)
    found = describe_scans(readable, asked, device) if asked else {}
    names = [case for row, case in enumerate(cases) if row not in readable.broken]
    if "features" in asked and labeled is not None:
        found["labeled"] = describe_scans(_Readable(labeled), {"features": embedding}, device)["features"]
    columns: dict[str, Any] = {}
    if "uncertainty" in found:
        columns["uncertainty"] = found["uncertainty"] = found["uncertainty"][:, 0]
    if "labeled" in found:
        columns["distance"] = cdist(found["features"], found["labeled"]).min(axis=1)
    chosen = choose_scans(strategy, count, len(names), seed=seed, **found)  # type: ignore[arg-type]
    scans = [
        {"case": case, **{name: float(column[row]) for name, column in columns.items()}}
        for row, case in enumerate(names)
    ]
    suggested = [names[number] for number in chosen]
    content = {"strategy": strategy, "seed": seed, "suggested": suggested, "scans": scans}
    content["unreadable"] = [cases[row] for row in sorted(readable.broken)]
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, content)
    logger.info(f"{target}: {len(chosen)} of {len(cases)} scans, by {strategy}: {', '.join(suggested[:5])}")
    return content
