from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset

from monai_ssl.engines.assessment import ClassAssessment, MaskAssessment, compare_features
from monai_ssl.metrics.fold_scores import case_interval
from monai_ssl.networks.frozen_features import random_network
from monai_ssl.utils.errors import UserError

DEFINITION = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [4, 6],
    "strides": [2],
}


def test_random_encoders_count_as_one_and_differences_pair():
    scores = {
        "pretrained": {"dice": [0.8, 0.6, 0.7]},
        "random 1": {"dice": [0.5, 0.3, 0.4]},
        "random 2": {"dice": [0.7, 0.5, 0.6]},
        "intensity": {"dice": [0.1, 0.2, 0.6]},
    }
    scores = {name: {"dice": np.array(by["dice"])} for name, by in scores.items()}
    found = compare_features(scores, case_interval)
    assert found["features"]["random"]["dice"]["mean"] == pytest.approx(0.5)
    assert found["features"]["random"]["dice"]["per_seed"] == pytest.approx([0.4, 0.6])
    difference = found["differences"]["pretrained - random"]["dice"]
    # each case gains 0.2, so that the paired difference has no width although the scores have
    assert (difference["mean"], difference["low"], difference["high"]) == pytest.approx((0.2, 0.2, 0.2))
    assert found["differences"]["pretrained - intensity"]["dice"] == pytest.approx(
        case_interval([0.7, 0.4, 0.1]).as_dict()
    )


def classes(texture, **changed):
    """Scans of two classes: a level that intensities tell, or a texture with one histogram that they cannot."""
    generator = torch.Generator().manual_seed(0)
    scans, cases = [], []
    for number in range(24):
        label = number % 2
        noise = torch.randn(1, 8, 8, 8, generator=generator)
        if texture:
            noise = noise.sort(dim=1).values if label else noise
        scans.append({"image": noise if texture else noise + 3 * label})
        cases.append({"label": label, "patient": str(number)})
    settings = {"folds": 3, "repeats": 1, "random_seeds": 2} | changed
    loader = DataLoader(Dataset(scans), batch_size=1)
    return ClassAssessment(random_network(DEFINITION, 9), DEFINITION, loader, cases, (8, 8, 8), **settings)


def test_a_class_in_the_intensities_is_found_by_them_and_a_texture_is_not():
    level = classes(texture=False).run()
    assert level["features"]["intensity"]["linear: roc_auc"]["mean"] == 1.0
    assert (level["cases"], level["patients"], level["classes"]) == (24, 24, {"0": 12, "1": 12})
    assert level["lengths"] == {"pretrained": 6, "random": 6, "intensity": 13}
    assert level["chance"] == {"balanced_accuracy": 0.5, "roc_auc": 0.5}
    assert len(level["features"]["random"]["linear: roc_auc"]["per_seed"]) == 2
    texture = classes(texture=True, levels="all", pooling="mean_max").run()
    assert texture["lengths"] == {"pretrained": 20, "random": 20, "intensity": 13}
    assert texture["features"]["intensity"]["linear: roc_auc"]["mean"] < 0.8
    assert texture["features"]["pretrained"]["linear: roc_auc"]["mean"] > 0.9


def test_figures_return():
    assert masks().run() == masks().run()


def test_random_seeds_and_levels_are_checked():
    with pytest.raises(UserError, match="random_seeds must be 1 or more, got 0"):
        classes(texture=False, random_seeds=0)
    with pytest.raises(UserError, match="levels must be deepest or all, got 'top'"):
        classes(texture=False, levels="top")


class Scorer:
    """In place of an evaluator with a report: the Dice of what its network says of given scans."""

    def __init__(self, scans, without=()):
        self.scans, self.without, self.network, self.state = scans, without, None, SimpleNamespace()

    def run(self):
        cases = []
        for number, scan in enumerate(self.scans):
            predicted, label = self.network(scan["image"][None]).argmax(dim=1)[0], scan["label"][0]
            dice = 2 * (predicted * label).sum().item() / (predicted.sum() + label.sum()).item()
            cases.append({"mean": {"dice": None if number in self.without else dice}})
        self.state.summary = {"cases": cases}


def masks(without=()):
    scans = []
    for number in range(5):
        label = torch.zeros(1, 8, 8, 8)
        label[:, 2:6, 1:7, number % 3 : 5] = 1
        generator = torch.Generator().manual_seed(number)
        scans.append({"image": 2 * label + 0.3 * torch.randn(1, 8, 8, 8, generator=generator), "label": label})
    loader, scorer = DataLoader(Dataset(scans[:2]), batch_size=1), Scorer(scans[2:], without)
    network = random_network(DEFINITION, 9)
    return MaskAssessment(network, DEFINITION, loader, scorer, 2, (8, 8, 8), random_seeds=1, voxels_per_class=60)


def test_a_mask_in_the_intensities_is_found_by_them():
    figures = masks().run()
    assert figures["features"]["intensity"]["dice"]["mean"] > 0.95
    assert figures["lengths"] == {"pretrained": 10, "random": 10, "intensity": 27}
    assert (figures["training_cases"], figures["cases"], figures["voxels"]) == (2, 3, 240)
    assert figures["differences"]["pretrained - intensity"]["dice"]["mean"] <= 0.05


def test_a_case_without_a_class_counts_nowhere():
    assert masks(without=(1,)).run()["cases"] == 2
    with pytest.raises(UserError, match="1 of 3 evaluation cases have a Dice: two are needed"):
        masks(without=(0, 1)).run()
