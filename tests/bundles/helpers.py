"""Runs of a bundle on generated volumes, in this process or in one of their own."""

from __future__ import annotations

import csv
import json
import logging
import multiprocessing
import os
import sys
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import torch

import monai_ssl
from monai_ssl.data.nodule_phantoms import write_nodule_phantoms
from monai_ssl.data.phantoms import write_phantoms
from monai_ssl.utils import runs

BUNDLE = Path(monai_ssl.__file__).parents[1] / "bundles" / "semi_segmentation"
PRETRAINING = BUNDLE.with_name("ssl_pretraining")
DETECTION = BUNDLE.with_name("focalmix_detection")
CONFIGS = BUNDLE / "configs"
METHODS, PRETEXTS, DETECTORS = (
    sorted(path.stem for path in (bundle / "configs" / "methods").glob("*.yaml"))
    for bundle in (BUNDLE, PRETRAINING, DETECTION)
)
# small enough for a second a run
FAST = {
    "max_steps": 4,
    "epoch_length": 2,
    "save_interval": 2,
    "val_interval": 3,
    "patch_size": [16, 16, 16],
    "network_def#channels": [4, 8],
    "network_def#strides": [2],
    "device": "cpu",
}
# what a method needs beside: a network with four scales; an epoch a round and one before
NEEDED = {
    "uncertainty_rectified_pyramid": {"network_def#channels": [4, 8, 8, 8], "network_def#strides": [2, 2, 2]},
    "pseudo_label": {"rounds": 1},
}
FAST_PRETRAINING = {name: value for name, value in FAST.items() if name != "val_interval"}
FAST_DETECTION = {
    **{name: value for name, value in FAST.items() if not name.startswith("network_def")},
    "network_def#backbone#block_inplanes": [4, 8, 8, 8],
    "network_def#channels": 8,
    # after four steps a box may be a hit, so that figures are not all 0
    "learning_rate": 0.03,
    "warmup_steps": 1,
    "detector#score_threshold": 0.0,
    "detector#overlap": 0.0,
    "iou_threshold": 0.02,
}
# as FAST_DETECTION, of evaluate.yaml
FAST_SCORING = {"score_threshold": 0.0, "overlap": 0.0, "iou_threshold": 0.02, "resamples": 0, "device": "cpu"}


def config_files(configs, bundle=BUNDLE):
    """``train.yaml`` and ``mean_teacher`` become paths."""
    return [
        str(Path(bundle) / "configs" / (name if name.endswith(".yaml") else f"methods/{name}.yaml")) for name in configs
    ]


def run_bundle(*configs, bundle=BUNDLE, at_end=None, **settings):
    """``python -m monai.bundle run`` in this process; ``at_end`` is called before what the run changed is undone."""
    with as_own_process():
        try:
            monai.bundle.run(config_file=config_files(configs, bundle), bundle_root=str(bundle), **settings)
        finally:
            if at_end is not None:
                at_end()


def train(*methods, **settings):
    """A training run of a second."""
    run_bundle("train.yaml", *methods, **{**FAST, **NEEDED.get(methods[-1] if methods else "", {}), **settings})


def pretrain(*methods, **settings):
    """A pretraining of a second or two."""
    run_bundle("train.yaml", *methods, bundle=PRETRAINING, **{**FAST_PRETRAINING, **settings})


def detect(*methods, **settings):
    """A training run of a detector, of a second or two."""
    run_bundle("train.yaml", *methods, bundle=DETECTION, **{**FAST_DETECTION, **settings})


@contextmanager
def as_own_process():
    """What a run changes in its process and a process's end would undo, is undone."""
    root = logging.getLogger()
    engine = logging.getLogger("ignite.engine.engine")
    before = (sys.excepthook, list(sys.path), root.level, list(root.handlers), engine.level)
    thread_hook = threading.excepthook
    try:
        with warnings.catch_warnings():
            # MONAI warns of every config that it reads
            warnings.filterwarnings("ignore", message="parsing config_file")
            yield
    finally:
        for handler in root.handlers:
            if isinstance(handler, logging.FileHandler) and handler not in before[3]:
                handler.close()
        engine.setLevel(before[4])
        threading.excepthook = thread_hook
        sys.excepthook, sys.path[:], root.level, root.handlers[:] = before[:4]
        while runs._locks:
            runs._locks.popitem()[1].release()


def processes():
    """Processes that start at once: a server has imported the libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.bundles.helpers", "monai_ssl.engines", "monai_ssl.handlers"])
    return context


def train_quietly(methods, settings):
    """Target of a process of :func:`processes`."""
    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    train(*methods, **settings)


def write_list(folder, modality="MRI", validation=1):
    """Two labelled, three unlabelled, one validation and two test cases of 24 voxels a side."""
    path = write_phantoms(folder, cases=5, unlabeled=3, modality=modality, size=(24, 24, 24))
    data = json.loads(path.read_text())
    cases = data["training"]
    data |= {"training": cases[:2], "validation": cases[2 : 2 + validation], "test": cases[3:]}
    path.write_text(json.dumps(data))
    return path


def write_box_list(folder, **parts):
    """Two labelled, one validation and two test chests, one of each two healthy, and two unlabelled ones.

    Args:
        folder: where they go, as `chest_000.nii.gz` to `chest_006.nii.gz`.
        parts: of the list, what is to stand in place of a part, as a function of it.
    """
    path = write_nodule_phantoms(folder, cases=5, unlabeled=2, size=(40, 40, 40))
    data = json.loads(path.read_text())
    cases = data["training"]
    assert [len(case["box"]) for case in cases] == [1, 3, 2, 0, 1]
    data |= {"training": [cases[1], cases[3]], "validation": [cases[2]], "test": [cases[0], cases[4]]}
    data |= {part: change(data[part]) for part, change in parts.items()}
    path.unlink()
    path = path.with_name("dataset.json")
    path.write_text(json.dumps(data))
    return path


def spoil(data, change):
    """Let ``change`` change the list of a folder in place."""
    path = Path(data) / "dataset.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def steps(folder):
    """The rows of a run's table."""
    with open(Path(folder) / "steps.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def numbers(folder):
    """The same without what differs between equal runs."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in steps(folder)]


def write_nifti(path, array, affine=None):
    """An image of float32 or a label map of uint8."""
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    image.set_sform(image.affine, code=1)
    image.set_qform(None, code=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def read_json(path):
    return json.loads(Path(path).read_text())


def load(path):
    return torch.load(path, weights_only=True)


def uncertainties(suggestions):
    return {scan["case"]: scan["uncertainty"] for scan in suggestions["scans"]}


def check_suggestions(content, folder, strategy):
    """Two scans of the list's unlabelled ones, each scan with the figures of the strategy and no others."""
    pool = [case["image"] for case in read_json(folder / "dataset.json")["unlabeled"]]
    assert [scan["case"] for scan in content["scans"]] == pool
    assert len(set(content["suggested"])) == 2
    assert set(content["suggested"]) <= set(pool)
    for scan in content["scans"]:
        assert ("uncertainty" in scan) == ("uncertainty" in strategy)
        assert ("distance" in scan) == ("coverage" in strategy)
    if strategy == "uncertainty":
        assert content["suggested"] == sorted(pool, key=lambda name: -uncertainties(content)[name])[:2]
