from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_ssl.utils.workflow import created_from, overrides, plain_values, running_workflow
from tests.utils.small_config import values

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")


def test_outside_a_workflow_there_is_nothing() -> None:
    assert overrides() == {}
    assert created_from() is None
    for call in (lambda: plain_values("seed"), running_workflow):
        with pytest.raises(RuntimeError, match="in the config of a running bundle workflow"):
            call()


def test_plain_values_are_resolved_and_components_stay_dictionaries(config: Path) -> None:
    plain = values(config, "plain")
    assert plain == {
        "spacing": [1.0, 1.0, 1.0],
        "names": ["back", "front"],
        "network_def": {"_target_": "torch.nn.Linear", "in_features": 6, "out_features": 2},
        "modality": "MRI",
    }
    assert json.loads(json.dumps(plain)) == plain


def test_overrides_are_what_was_given(config: Path) -> None:
    assert values(config, "given", seed=3, **{"train#crop": [], "dataset_dir": None}) == {"seed": 3, "train::crop": []}
