from __future__ import annotations

import numpy as np

from monai_ssl.report.label_pictures import draw_labels, label_volumes
from monai_ssl.report.scans import Scan


def scan(**predictions: int) -> Scan:
    label = np.zeros((20, 20, 20), np.uint8)
    label[5:10, 5:10, 5:10] = 1
    moved = {name: np.roll(label, shift, 0) for name, shift in predictions.items()}
    return Scan(np.random.default_rng(0).normal(size=label.shape).astype(np.float32), label, moved, np.eye(4))


def test_label_and_prediction_are_outlined_on_three_planes() -> None:
    # the second prediction lies beside the sagittal slice
    for name, outlines in (("one", [2, 2, 2]), ("two", [2, 2, 1])):
        figure = draw_labels(scan(one=0, two=3), name, 1)
        assert [len(axes.collections) for axes in figure.axes] == outlines


def test_a_layer_names_its_model_where_there_are_two() -> None:
    assert [one["name"] for one in label_volumes(scan(one=0, two=3))["layers"]] == [
        *("Label", "Prediction of one", "Prediction of two")
    ]
    assert [one["name"] for one in label_volumes(scan(**{"": 0}))["layers"]] == ["Label", "Prediction"]
