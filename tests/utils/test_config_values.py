from __future__ import annotations

import pytest

from monai_ssl.utils.config_values import check_components, check_values, targets_in
from monai_ssl.utils.errors import UserError


@pytest.mark.parametrize(
    "value",
    [
        "$import os",
        " \t$1",
        "@network",
        "%train.yaml::run",
        ["a", "$b"],
        {"a": {"b": ("@c",)}},
        {"_target_": "os.system"},
        {"a": [{"_requires_": 1}]},
        {"$a": 1},
    ],
)
def test_code_of_a_config_is_refused_at_every_depth(value):
    with pytest.raises(UserError, match="is code in a config"):
        check_values(value)


def test_the_place_is_named():
    with pytest.raises(UserError, match=r"the request, device, name: '\$x'"):
        check_values({"device": {"name": "$x"}})


@pytest.mark.parametrize("value", ["cpu", "a$b", "user@host", "50%", "", None, 3, 0.5, True, {"a": ["b", 1, None]}])
def test_plain_values_pass(value):
    check_values(value)


def test_nesting_has_a_limit():
    value: object = 1
    for _ in range(100):
        value = [value]
    with pytest.raises(UserError, match="nested too deeply"):
        check_values(value)


NETWORK = {"_target_": "monai.networks.nets.UNet", "channels": [4, 8], "norm": "INSTANCE"}


@pytest.mark.parametrize(
    "values",
    [
        {"network_def": NETWORK, "spacing": [1.0, 1.0, 1.0], "class_names": ["background", "a$b"], "modality": "MRI"},
        {"network_def": {"_target_": "monai_ssl.networks.Detector", "backbone": NETWORK}},
        {"network_def": {"_target_": "torch.nn.Linear", "in_features": 4}},
        {"heads": {"reconstruction": {"_target_": "monai_ssl.networks.NetworkOutput", "channels": 1}}},
        {"masking": [{"_target_": "monai_ssl.transforms.RandBlockMaskd", "keys": "masked", "ratio": 0.3}]},
    ],
)
def test_what_a_training_writes_beside_its_weights_passes(values):
    check_components(values, "preprocessing.json")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"spacing": "$print(1)"}, "begins with"),
        ({"spacing": {"_target_": "torch.nn.Linear"}}, r"spacing would make 'torch\.nn\.Linear'"),
        ({"network_def": {"_target_": "os.system"}}, r"would make 'os\.system'.*name it in the bundle's own config"),
        ({"network_def": {"_target_": "UNet"}}, "would make 'UNet'"),
        ({"network_def": {"_target_": "torch.load"}}, "would make"),
        ({"network_def": {"_target_": "torch.nn.modules.module.torch.load"}}, "would make"),
        ({"network_def": {"_target_": "torch.nn.functional.relu"}}, "would make"),
        ({"network_def": {"_target_": "monai.networks.nets.nowhere.UNet"}}, "would make"),
        ({"network_def": {"_target_": "torch.nn.Sequential", "a": {"_target_": "os.getcwd"}}}, r"os\.getcwd"),
        ({"network_def": {**NETWORK, "_mode_": "debug"}}, "'_mode_' is code"),
        ({"network_def": {"_target_": ["os.system"]}}, "'_target_' is code"),
        ({"masking": [{"_target_": "monai.transforms.LoadImage", "reader": "os.system"}]}, "LoadImage"),
        ({"_requires_": []}, "is no name of a setting"),
        ({"train#handlers": []}, "is no name of a setting"),
    ],
)
def test_what_would_run_is_refused_by_name(values, message):
    with pytest.raises(UserError, match=f"preprocessing.json.*{message}"):
        check_components(values, "preprocessing.json")


def test_components_of_the_bundles_own_config_are_trusted():
    definition = {"network_def": {"_target_": "mine.Net"}}
    check_components(definition, "preprocessing.json", set(targets_in({"a": [definition]})))


def test_targets_are_found_at_every_depth_and_only_so_deep():
    assert list(targets_in([{"_target_": "a", "b": [({"_target_": "c"},)]}, "d"])) == ["a", "c"]
    nested: list[object] = []
    nested.append(nested)
    assert list(targets_in(nested)) == []
