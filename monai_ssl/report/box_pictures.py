"""A case of a detector: slices through what was missed, found and falsely found, and boxes for the viewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from monai_ssl.data.box_files import read_boxes
from monai_ssl.handlers.detection_pictures import draw_tile, take_tiles
from monai_ssl.handlers.pictures import draw_plane, take_picture
from monai_ssl.metrics.box_matching import MatchedBoxes, match_boxes
from monai_ssl.report.scans import read_classes, read_image, region_around, thin, volume_text
from monai_ssl.transforms.mask_boxes import mask_to_boxes
from monai_ssl.utils.box_grids import voxel_to_world_boxes, world_to_voxel_boxes

__all__ = ["BoxedScan", "Boxes", "box_volumes", "draw_boxes", "read_boxed_scan"]

_TILES = 3  # slices of a case
_LONGEST_SIDE = 144  # voxels of a volume in a page; more than of a label, since boxes lie all over a scan
_TRUTH, _PREDICTION = 1, 2  # classes of the outlines, in the order of the legend

Array = NDArray[np.float64]


class Boxes(NamedTuple):
    """A file of predicted boxes, and the score above which they are shown."""

    path: Path
    least: float


@dataclass(frozen=True)
class BoxedScan:
    """A case with the boxes that models found in it, in edge coordinates of its own voxels.

    Attributes:
        image: grey values, ``(H, W, D)``.
        affine: from voxels to RAS millimetres.
        true_boxes: corners, ``(M, 6)``.
        found: by model its boxes and which of them are true.
        least: by model the score above which a box is shown.
    """

    image: NDArray[np.float32]
    affine: Array
    true_boxes: Array
    found: Mapping[str, MatchedBoxes]
    least: Mapping[str, float]

    def shown(self, label: str) -> Array:
        """Corners of the boxes of a model that are shown, ``(N, 6)``."""
        matched = self.found[label]
        return matched.boxes[matched.scores > self.least[label]]


def read_boxed_scan(
    image: Path, truth: Mapping[str, Any], coordinates: str, files: Mapping[str, Boxes], classes: int, threshold: float
) -> BoxedScan:
    """Read a scan with its true and its predicted boxes, and match them as an evaluation does.

    Args:
        image: NIfTI file.
        truth: entry of the data list: ``box`` and ``label``, or the path of a mask as ``label``.
        coordinates: of the list's boxes, ``RAS`` or ``LPS``.
        files: by model the file of its boxes.
        classes: number of classes.
        threshold: intersection over union of a hit.

    Raises:
        OSError: when a scan cannot be read.
        UserError: when boxes cannot be read, or are none.
    """
    grey, affine = read_image(image)
    if "box" in truth:
        own = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine if coordinates == "LPS" else affine
        true_boxes, true_labels = _corners(np.asarray(truth["box"], float), own), np.asarray(truth["label"], int)
    else:
        boxes, labels = mask_to_boxes(read_classes(Path(truth["label"])))
        true_boxes, true_labels = boxes.double().numpy(), labels.numpy()
    found = {}
    for label, file in files.items():
        made = read_boxes(file.path)
        found[label] = match_boxes(
            _corners(made["box"], affine),
            made["score"],
            made["label"],
            true_boxes,
            true_labels,
            classes=classes,
            iou_threshold=threshold,
        )
    return BoxedScan(grey, affine, true_boxes, found, {label: file.least for label, file in files.items()})


def draw_boxes(scan: BoxedScan, label: str, class_names: list[str]) -> tuple[Figure, str]:
    """Slices through missed, found and falsely found boxes, in this order, and how many there are of each.

    Where there is neither a true box nor a false alarm, three slices through the middle are drawn.

    Args:
        scan: the case.
        label: of the model whose boxes are drawn.
        class_names: of the classes 0, 1, ..
    """
    matched, least = scan.found[label], scan.least[label]
    tiles = take_tiles("", scan.image, scan.affine, matched, _TILES)
    kinds = {
        "missed": [replace(tile, predicted=None) for tile in tiles if tile.true and not tile.score > least],
        "found": [tile for tile in tiles if tile.true and tile.score > least],
        "false alarm": [tile for tile in tiles if not tile.true and tile.score > least],
    }
    alarms = int((~matched.hits[0] & (matched.scores > least)).sum())
    told = f"{len(kinds['found'])} of {len(scan.true_boxes)} found" if len(scan.true_boxes) else "nothing to find"
    words = f"{told}, {alarms or 'no'} false alarm{'s' * (alarms > 1)}"
    figure = Figure(figsize=(4.5, 1.5), facecolor="black", dpi=200)
    grid = figure.add_gridspec(1, _TILES, left=0.0, right=1.0, top=1.0, bottom=0.0, wspace=0.01)
    # one of each kind before a second of any
    turns = sorted((turn, kind) for kind, found in kinds.items() for turn in range(len(found)))[:_TILES]
    chosen = [(kind, tile) for kind, found in kinds.items() for tile in found[: [k for _, k in turns].count(kind)]]
    for column, (kind, tile) in enumerate(chosen):
        name = f"{class_names[tile.label]} " if len(class_names) > 1 else ""
        score = "" if kind == "missed" else f", score {tile.score:.2g}"
        draw_tile(figure.add_subplot(grid[0, column]), tile, f"{name}{kind}{score}")
    if not chosen:
        empty = np.zeros(scan.image.shape, np.uint8)
        for column, plane in enumerate(take_picture("", None, scan.image, empty, empty, scan.affine).planes):
            draw_plane(figure.add_subplot(grid[0, column]), plane, 0)
    return figure, words


def box_volumes(scan: BoxedScan) -> dict[str, Any]:
    """The scan and the outlines of its boxes as the viewer takes them: what has boxes, and 20 mm around."""
    everything = np.concatenate([scan.true_boxes, *(scan.shown(label) for label in scan.found)])
    low, high = (everything[:, :3].min(0), everything[:, 3:].max(0)) if len(everything) else (None, None)
    ends = [None] * 3 if low is None or high is None else list(zip(low, high, strict=True))
    where = region_around(ends, scan.image.shape, scan.affine)
    image, affine, _ = thin(scan.image, scan.affine, where, _LONGEST_SIDE)

    def outlines(label: str | None) -> NDArray[np.uint8]:
        volume = np.zeros(image.shape, np.uint8)
        # a true box from outside and a prediction from inside, so that both are seen where they agree
        _outline(volume, _moved(scan.true_boxes, scan.affine, affine), _TRUTH, 1)
        if label is not None:
            _outline(volume, _moved(scan.shown(label), scan.affine, affine), _PREDICTION, 0)
        return volume

    layers = {
        "True boxes": outlines(None),
        **{f"True boxes and {name or 'predictions'}": outlines(name) for name in scan.found},
    }
    first = everything[0] if len(everything) else np.array([0, 0, 0, *scan.image.shape])
    focus = scan.affine[:3, :3] @ ((first[:3] + first[3:] - 1) / 2) + scan.affine[:3, 3]
    return {
        "focus": [float(value) for value in focus],
        "image": volume_text(image, affine, grey=True),
        "layers": [{"name": name, "data": volume_text(part, affine, grey=False)} for name, part in layers.items()],
    }


def _corners(boxes: NDArray[Any], affine: Array) -> Array:
    rows = torch.as_tensor(np.asarray(boxes, dtype=np.float64).reshape(-1, 6))
    return world_to_voxel_boxes(rows, torch.as_tensor(affine)).double().numpy()


def _moved(boxes: Array, affine: Array, to: Array) -> Array:
    world = voxel_to_world_boxes(torch.as_tensor(boxes), torch.as_tensor(affine))
    return _corners(world.numpy(), to)


def _outline(volume: NDArray[np.uint8], boxes: Array, value: int, room: int) -> None:
    """Paint the surface of boxes, so many voxels around them."""
    for box in boxes:
        low = np.floor(box[:3] + 0.5).astype(int) - room
        high = np.maximum(np.floor(box[3:] + 0.5).astype(int), low + room + 1) + room
        shell = np.ones(high - low, dtype=bool)
        shell[1:-1, 1:-1, 1:-1] = False
        first, last = np.clip(low, 0, volume.shape), np.clip(high, 0, volume.shape)
        inside = tuple(slice(a - start, b - start) for a, b, start in zip(first, last, low, strict=True))
        part = volume[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
        part[shell[inside]] = value
