"""What may be handed on names no folder of the machine that it was made on."""

from __future__ import annotations

import shutil

import pytest

from monai_ssl.utils.bundle_files import copy_bundle
from tests.bundles.helpers import BUNDLE, pretrain, run_bundle, train

# what the run says to the person who starts it
FOR_THIS_MACHINE = {"log.txt", "tensorboard"}


@pytest.fixture(scope="module")
def secret(mri, tmp_path_factory):
    """A folder that is named by a person."""
    folder = tmp_path_factory.mktemp("machine") / "Jane_Doe_1970"
    shutil.copytree(mri, folder / "data")
    return folder


def telling(folder, word):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    kept = [path for path in files if not FOR_THIS_MACHINE & set(path.relative_to(folder).parts)]
    return [path.relative_to(folder) for path in kept if word.encode() in path.read_bytes()]


def test_no_folder_is_named_in_a_run_its_evaluation_its_predictions_and_its_bundle(secret):
    data, start, run = secret / "data", secret / "start", secret / "run"
    pretrain("mae", dataset_dir=str(data), output_dir=str(start))
    settings = {"pretrained": str(start / "model.pt"), "val_interval": 2}
    train("mean_teacher", dataset_dir=str(data), output_dir=str(run), **settings)
    weights = str(run / "model.pt")
    run_bundle("evaluate.yaml", dataset_dir=str(data), weights=weights, output_dir=str(run / "test"), device="cpu")
    image = str(data / "imagesUn")
    run_bundle("inference.yaml", image=image, weights=weights, output_dir=str(run / "predictions"), device="cpu")
    copy_bundle(BUNDLE.name, run / "bundle", run)
    for folder in (start, run):
        assert not telling(folder, secret.name)
        assert not telling(folder, str(secret.parent))
    assert secret.name in (run / "log.txt").read_text()
