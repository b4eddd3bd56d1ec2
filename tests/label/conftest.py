from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from monai_ssl.data.nodule_phantoms import write_nodule_phantoms
from monai_ssl.data.phantoms import write_phantoms
from tests.label.helpers import DETECTION, PRETRAINING, SEGMENTATION, add_bundle, stock_app


def copied(scans: list[Path], folder: Path) -> Path:
    folder.mkdir()
    for number, scan in enumerate(scans):
        shutil.copy(scan, folder / f"study_{number}.nii.gz")
    return folder


@pytest.fixture(scope="session")
def apps(tmp_path_factory):
    """Folder of MONAI Label's own, unchanged app."""
    if importlib.util.find_spec("monailabel") is None:
        pytest.skip("needs MONAI Label: make label-env, then make test-label")
    return stock_app(tmp_path_factory.mktemp("stock"))


@pytest.fixture(scope="session")
def segmentation_app(apps, tmp_path_factory):
    """The app with an untrained segmentation and a pretraining that has not run."""
    app = tmp_path_factory.mktemp("segmentation") / "app"
    shutil.copytree(apps, app)
    add_bundle(app, SEGMENTATION, "untrained")
    add_bundle(app, PRETRAINING)
    return app


@pytest.fixture(scope="session")
def studies(tmp_path_factory):
    """Seven MRI-like studies of several orientations."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder / "list", cases=7, modality="MRI", size=(24, 28, 24))
    return copied(sorted((folder / "list" / "imagesTr").iterdir()), folder / "studies")


@pytest.fixture(scope="session")
def detection_app(apps, tmp_path_factory):
    """The app with an untrained detector."""
    app = tmp_path_factory.mktemp("detection") / "app"
    shutil.copytree(apps, app)
    add_bundle(app, DETECTION, "untrained")
    return app


@pytest.fixture(scope="session")
def chests(tmp_path_factory):
    """Folder of five chests, and the path of the list that has their boxes in RAS."""
    folder = tmp_path_factory.mktemp("chests")
    path = write_nodule_phantoms(folder / "list", cases=5, size=(40, 40, 40))
    return copied(sorted((folder / "list" / "imagesTr").iterdir()), folder / "studies"), path
