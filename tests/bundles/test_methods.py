"""A method file's result depends on the method alone, not on what it is merged over."""

from __future__ import annotations

import warnings
from functools import cache

import pytest
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow

from tests.bundles.helpers import CONFIGS, METHODS, as_own_process, config_files

METHOD_KEYS = ["labeled_batch_size", "unlabeled_batch_size", "network_b", "ramp_steps", "term_weights", "objective"]


@cache
def read(name):
    return yaml.safe_load((CONFIGS / name).read_text())


def merged(*methods):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ConfigParser.load_config_files(config_files(["train.yaml", *methods]))


@cache
def fingerprint(data, *methods):
    with as_own_process():
        workflow = ConfigWorkflow(
            config_file=config_files(["train.yaml", *methods]), dataset_dir=data, initialize=[], run_id="fingerprint"
        )
        workflow.initialize()
        return workflow.run()[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_sets_exactly_the_closed_list(method):
    assert list(read(f"methods/{method}.yaml")) == METHOD_KEYS
    assert read("train.yaml").keys() >= set(METHOD_KEYS)


def test_the_default_is_the_mean_teacher():
    default, method = read("train.yaml"), read("methods/mean_teacher.yaml")
    assert {key: default[key] for key in METHOD_KEYS} == method


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("before", METHODS)
def test_what_was_merged_before_does_not_matter(method, before, mri):
    assert merged(before, method) == merged(method)
    assert fingerprint(str(mri), before, method) == fingerprint(str(mri), method)


def test_methods_differ_in_their_fingerprints(mri):
    prints = {tuple(sorted(fingerprint(str(mri), method).items())) for method in METHODS}
    assert len(prints) == len(METHODS)
    assert fingerprint(str(mri)) == fingerprint(str(mri), "mean_teacher")


@pytest.mark.parametrize("method", METHODS)
def test_a_method_says_in_its_first_line_what_it_is(method):
    assert (CONFIGS / "methods" / f"{method}.yaml").read_text().startswith("# ")
