"""Faulty files through what a training loads them with: each is refused by its name, or trained on, and none hangs."""

from __future__ import annotations

import json
import os
import resource
import time
import warnings

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import CacheDataset

from monai_ssl.data import ScanDataset
from monai_ssl.utils.errors import UserError
from tests.bundles.helpers import BUNDLE, DETECTION, PRETRAINING
from tests.data.check_files import BROKEN, make_data

CLASSES = ["background", "liver", "tumour"]
# what a loader must refuse even where the check is left out; the rest may be trained on
REFUSED = {"missing", "unreadable", "not_a_file", "series", "empty", "short", "too_large"}


@pytest.fixture(scope="module")
def loaders():
    """What each bundle's labelled and unlabelled cases go through, small."""

    def read(bundle, name, **settings):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parser = ConfigParser(ConfigParser.load_config_files([str(bundle / "configs" / "train.yaml")]))
        parser.update({"in_channels": 1, "patch_size": [8, 8, 8], "device": "cpu", **settings})
        return parser.get_parsed_content(name)

    boxes = {"boxes_from": "mask", "coordinates": "RAS", "class_names": CLASSES[1:], "max_boxes": 16}
    with_labels = {"class_names": CLASSES}
    return {
        "segmentation": read(BUNDLE, "train#preprocessing", **with_labels),
        "unlabelled": read(BUNDLE, "train#unlabeled_preprocessing", **with_labels),
        "validation": read(BUNDLE, "validate#preprocessing", **with_labels),
        "pretraining": read(PRETRAINING, "train#preprocessing"),
        "detection": read(DETECTION, "train#preprocessing", **boxes),
    }


@pytest.mark.parametrize("name", BROKEN)
def test_each_is_refused_by_its_name_or_trained_on(loaders, tmp_path, name):
    kind, change = BROKEN[name]
    _, cases = make_data(tmp_path)
    change(cases[2])
    files = {key: str(cases[2].path(key)) for key in ("image", "label")}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.monotonic()
    refused = set()
    for loader, transform in loaders.items():
        classes = len(CLASSES) if loader in ("segmentation", "validation") else None
        images = loader in ("unlabelled", "pretraining")
        case = {"image": files["image"]} if images else dict(files)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of MONAI and NumPy on what such files hold
                dataset = ScanDataset([case], transform.set_random_state(0), channels=1, classes=classes)
                item = dataset[0]
        except UserError as error:
            refused.add(loader)
            told = str(error)
            assert "\n" not in told
            assert any(file in told for file in case.values()), told
        else:
            for one in item if isinstance(item, list) else [item]:
                assert isinstance(one["image"], torch.Tensor)
    assert time.monotonic() - begin < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_500_000  # kB
    assert refused or kind not in REFUSED


def test_a_data_set_of_monai_names_no_file_in_the_same_place(loaders, tmp_path):
    _, cases = make_data(tmp_path)
    BROKEN["half"][1](cases[0])
    data = [{"image": str(cases[0].path("image"))}]
    with pytest.raises(RuntimeError) as caught:
        CacheDataset(data, loaders["pretraining"], cache_rate=0.0, progress=False)[0]
    assert not isinstance(caught.value, UserError)


@pytest.mark.timeout(60)
def test_a_pipe_in_place_of_a_scan_is_refused_by_every_loader_and_by_the_list(mistake, loaders, mri, tmp_path):
    pipe = tmp_path / "pipe.nii.gz"
    os.mkfifo(pipe)
    for name, transform in loaders.items():
        with pytest.raises(UserError, match=r"pipe.nii.gz: .*is neither a file nor a folder"):
            ScanDataset([{"image": str(pipe), "label": str(pipe)}], transform)[0]
        assert name
    content = json.loads((mri / "dataset.json").read_text())
    content["unlabeled"].append({"image": str(pipe)})
    path = tmp_path / "list.json"
    path.write_text(json.dumps(content))
    line = mistake("train.yaml", datalist=str(path))
    assert line == f"Error: {path}: 1 of 4 files of `unlabeled` are pipes or devices: {pipe}. Name scans."
