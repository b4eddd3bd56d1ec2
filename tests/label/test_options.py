from __future__ import annotations

import pytest

from monai_ssl.label.options import ALL_STUDIES, LABELED_STUDIES, PRETRAINING, TrainingOptions, read_options
from monai_ssl.utils.errors import UserError

DEFAULTS = TrainingOptions(device="cuda:0")


def test_what_is_not_named_has_its_default():
    assert read_options({"model": "a", "client_id": 1, "steps": None, "device": ""}, DEFAULTS) == DEFAULTS


def test_choices_are_read_from_what_clients_send():
    request = {"steps": "30", "learn_from": LABELED_STUDIES, "start_from": [PRETRAINING, "x"], "validation": "0"}
    options = read_options(request, DEFAULTS)
    assert options == TrainingOptions(30, LABELED_STUDIES, PRETRAINING, 0.0, "cuda:0")
    assert options.epoch_length == 30
    assert read_options({"device": ["cpu", "cuda"]}, DEFAULTS).device == "cpu"
    assert DEFAULTS.learn_from == ALL_STUDIES


@pytest.mark.parametrize(("given", "steps"), [(1, 1), (49, 49), (50, 50), (51, 100), (500, 500), (501.0, 550)])
def test_steps_are_whole_epochs(given, steps):
    options = read_options({"steps": given}, DEFAULTS)
    assert options.steps == steps
    assert options.steps % options.epoch_length == 0


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"steps": 0}, "steps must be a number from 1"),
        ({"steps": "nan"}, "steps must be a number from 1"),
        ({"steps": 1.5}, "whole number"),
        ({"steps": True}, "steps must be a number"),
        ({"steps": 1e9}, "steps must be a number from 1 to 1000000"),
        ({"validation": 1}, "validation must be a number from 0 to 0.9"),
        ({"validation": "half"}, "got 'half'"),
        ({"learn_from": "everything"}, "learn_from must be one of: all studies, labelled studies alone"),
        ({"start_from": 3}, "start_from must be one of"),
    ],
)
def test_values_that_are_none_are_refused(request_, words):
    with pytest.raises(UserError, match=words):
        read_options(request_, DEFAULTS)
