"""A segmented case: slices with the outlines of label and prediction, and volumes for the viewer."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from monai_ssl.handlers.pictures import draw_plane, take_picture
from monai_ssl.report.scans import Scan, volume_text

__all__ = ["draw_labels", "label_volumes"]


def draw_labels(scan: Scan, label: str, classes: int) -> Figure:
    """The axial, coronal and sagittal slice with most of the label, side by side.

    Args:
        scan: the case.
        label: of the model whose prediction is drawn.
        classes: number of foreground classes.
    """
    taken = take_picture("", None, scan.image, scan.label, scan.predictions[label], scan.affine)
    figure = Figure(figsize=(6.0, 2.0), facecolor="black", dpi=160)
    grid = figure.add_gridspec(1, 3, left=0.0, right=1.0, top=1.0, bottom=0.0, wspace=0.01)
    for column, plane in enumerate(taken.planes):
        draw_plane(figure.add_subplot(grid[0, column]), plane, classes)
    return figure


def label_volumes(scan: Scan) -> dict[str, Any]:
    """The scan, its label and its predictions as the viewer takes them."""
    small = scan.cut()
    predicted = {f"Prediction of {name}" if name else "Prediction": part for name, part in small.predictions.items()}
    layers = {"Label": small.label, **predicted}
    return {
        "focus": small.focus(),
        "image": volume_text(small.image, small.affine, grey=True),
        "layers": [
            {"name": name, "data": volume_text(part, small.affine, grey=False)} for name, part in layers.items()
        ],
    }
