from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_ssl.metrics.box_matching import detection_record, match_boxes
from monai_ssl.metrics.detection import summarise_detections
from monai_ssl.metrics.free_response import sensitivities_of
from monai_ssl.metrics.segmentation import LOWER_IS_BETTER, SCORE_NAMES
from monai_ssl.study.measures import MEASURES, measures_of, task_of


def test_the_ending_of_a_name_tells_the_task() -> None:
    names = ("semi_segmentation", "focalmix_detection", "detection_semi", "mine")
    assert [task_of(Path("/a_detection") / name) for name in names] == [
        "segmentation",
        "detection",
        "segmentation",
        "segmentation",
    ]


def test_figures_of_segmentation_are_those_that_a_run_writes() -> None:
    assert measures_of("segmentation") == SCORE_NAMES
    for name in SCORE_NAMES:
        assert ("lower is better" in MEASURES[name].axis) == (name in LOWER_IS_BETTER)
        assert (MEASURES[name].margin is None) == (name in LOWER_IS_BETTER)


def test_figures_of_detection_are_those_that_a_run_writes() -> None:
    assert measures_of("detection") == ("cpm", "sensitivity_1")
    box = np.array([[0.0, 0.0, 0.0, 5.0, 5.0, 5.0]])
    far = box + 20
    given = [(np.concatenate([far, box]), [0.9, 0.8], [0, 0]), (far, [0.5], [0])]
    cases = [match_boxes(*one, box, [0]) for one in given]
    records = [detection_record(f"{place}.nii.gz", case, ["nodule"]) for place, case in enumerate(cases)]
    about = {"part": "test", "weights": "model.pt", "list_name": "dataset.json"}
    mean = summarise_detections(records, cases, class_names=["nodule"], resamples=0, **about)["mean"]
    for name in measures_of("detection"):
        assert mean[name] == pytest.approx(sensitivities_of(records, rates=MEASURES[name].rates).mean())
        assert name not in LOWER_IS_BETTER
    assert mean["cpm"] != mean["sensitivity_1"]
