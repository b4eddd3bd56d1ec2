"""Every pretext task learns three scans by heart: its loss leaves that of the first steps behind."""

from __future__ import annotations

import csv
import statistics

import numpy as np
import pytest

from tests.bundles.helpers import PRETEXTS, pretrain
from tests.bundles.test_ssl_pretraining import smooth, write_scans

# brighter towards one corner: random volumes alone have no direction that tells a rotation
CORNER = np.mgrid[:24, :24, :24].transpose(1, 2, 3, 0) @ np.array([0.02, 0.06, 0.12])

# the term that must fall, and to which share of its mean over the first ten steps within 300
FALLS = {
    "adversarial": ("restoration", 0.8),
    "autoencoder": ("reconstruction", 0.8),
    "contrastive_crops": ("contrast", 0.8),
    "jigsaw": ("permutation", 0.98),
    "mae": ("reconstruction", 0.8),
    "masked_inpainting": ("reconstruction", 0.9),
    "models_genesis": ("reconstruction", 0.8),
    "relative_position": ("position", 0.9),
    "rotation": ("rotation", 0.8),
    "three_tasks": ("loss", 0.95),
    "triplet": ("triplet", 0.8),
    "vicreg": ("loss", 0.9),
    "volume_fusion": ("alpha_class", 0.9),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", sorted(set(PRETEXTS) - {"momentum_contrast"}))
def test_overfits(method, tmp_path):
    settings = {"max_steps": 300, "epoch_length": 50, "save_interval": 300, "learning_rate": 0.01, "warmup_steps": 10}
    settings |= {"network_def#channels": [8, 16], "network_def#dropout": 0.0, "cache_rate": 1.0, "watch_interval": 300}
    data = write_scans(tmp_path / "data", smooth(3) + CORNER)
    pretrain(method, dataset_dir=data, output_dir=str(tmp_path / "run"), **settings)
    name, share = FALLS[method]
    with open(tmp_path / "run" / "steps.csv", newline="") as stream:
        values = [float(row[name]) for row in csv.DictReader(stream)]
    first, last = statistics.mean(values[:10]), statistics.mean(values[-20:])
    assert last < share * first, f"{name} {first:.3f} -> {last:.3f}"


def test_every_method_has_its_share():
    assert {*FALLS, "momentum_contrast"} == set(PRETEXTS)
