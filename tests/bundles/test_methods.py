"""A method file's result depends on the method alone, not on what it is merged over."""

from __future__ import annotations

import warnings
from functools import cache

import pytest
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow

from tests.bundles.helpers import (
    BUNDLE,
    DETECTION,
    DETECTORS,
    METHODS,
    PRETEXTS,
    PRETRAINING,
    as_own_process,
    config_files,
)

METHOD_KEYS = {
    BUNDLE: [
        *("labeled_batch_size", "unlabeled_batch_size", "unlabeled_augmentation", "network_b", "views", "ramp_steps"),
        *("rounds", "term_weights", "objective"),
    ],
    PRETRAINING: [
        *("unlabeled_batch_size", "views", "crop_size", "out_channels", "augmentation", "masking", "pretext"),
        *("heads", "tasks", "term_weights", "objective"),
    ],
    DETECTION: ["labeled_batch_size", "unlabeled_batch_size", "burn_in", "ramp_steps", "term_weights", "objective"],
}
DEFAULT = {BUNDLE: "entropy_minimisation", PRETRAINING: "volume_fusion", DETECTION: "focalmix"}
ALL = [
    (bundle, method)
    for bundle, methods in {BUNDLE: METHODS, PRETRAINING: PRETEXTS, DETECTION: DETECTORS}.items()
    for method in methods
]
every_method = pytest.mark.parametrize(
    ("bundle", "method"), ALL, ids=[f"{method} of {bundle.name}" for bundle, method in ALL]
)


@cache
def read(bundle, name):
    return yaml.safe_load((bundle / "configs" / name).read_text())


def merged(bundle, *methods):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ConfigParser.load_config_files(config_files(["train.yaml", *methods], bundle))


@cache
def fingerprint(bundle, data, *methods):
    with as_own_process():
        workflow = ConfigWorkflow(
            config_file=config_files(["train.yaml", *methods], bundle),
            dataset_dir=data,
            initialize=[],
            run_id="fingerprint",
        )
        workflow.initialize()
        return workflow.run()[0]


@every_method
def test_a_method_sets_exactly_the_closed_list(bundle, method):
    assert list(read(bundle, f"methods/{method}.yaml")) == METHOD_KEYS[bundle]
    assert read(bundle, "train.yaml").keys() >= set(METHOD_KEYS[bundle])


@pytest.mark.parametrize("bundle", METHOD_KEYS, ids=lambda bundle: bundle.name)
def test_the_default_is_one_of_the_methods(bundle):
    default, method = read(bundle, "train.yaml"), read(bundle, f"methods/{DEFAULT[bundle]}.yaml")
    assert {key: default[key] for key in METHOD_KEYS[bundle]} == method


@every_method
def test_what_was_merged_before_does_not_matter(bundle, method, mri):
    methods = [name for folder, name in ALL if folder == bundle]
    alone = merged(bundle, method)
    assert all(merged(bundle, before, method) == alone for before in methods)
    before = methods[methods.index(method) - 1]
    assert fingerprint(bundle, str(mri), before, method) == fingerprint(bundle, str(mri), method)


@pytest.mark.parametrize("bundle", METHOD_KEYS, ids=lambda bundle: bundle.name)
def test_methods_differ_in_their_fingerprints(bundle, mri):
    methods = [name for folder, name in ALL if folder == bundle]
    prints = {tuple(sorted(fingerprint(bundle, str(mri), method).items())) for method in methods}
    assert len(prints) == len(methods)
    assert fingerprint(bundle, str(mri)) == fingerprint(bundle, str(mri), DEFAULT[bundle])


@every_method
def test_a_method_says_in_its_first_line_what_it_is(bundle, method):
    assert (bundle / "configs" / "methods" / f"{method}.yaml").read_text().startswith("# ")
