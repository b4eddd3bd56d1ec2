from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_ssl.utils.bundle import as_bool, autocast_arguments, epochs, inside_monai_label, is_untrained
from monai_ssl.utils.errors import UserError
from tests.utils.small_config import workflow

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")


@pytest.mark.parametrize("value", [True, "true", "True", " YES ", "1", 1, "on"])
def test_true(value: Any) -> None:
    assert as_bool(value) is True


@pytest.mark.parametrize("value", [False, "false", "False", "no", "0", 0, "off", None, "none", ""])
def test_false(value: Any) -> None:
    assert as_bool(value) is False


@pytest.mark.parametrize("value", ["ture", 2, [], "t"])
def test_a_switch_is_nothing_else(value: Any) -> None:
    with pytest.raises(UserError, match=r"a switch must be true or false, got "):
        as_bool(value)


@pytest.mark.parametrize("value", [False, "false", None])
def test_no_mixed_precision(value: Any) -> None:
    assert autocast_arguments(value) is None


def test_mixed_precision_is_the_devices_own_or_named() -> None:
    assert autocast_arguments("true") == {}
    assert autocast_arguments("bfloat16") == {"dtype": torch.bfloat16}
    assert autocast_arguments(" float16 ") == {"dtype": torch.float16}
    with pytest.raises(UserError, match="amp must be true, false, float16 or bfloat16, got 'half'"):
        autocast_arguments("half")


def test_epochs_make_up_the_steps() -> None:
    for steps, length in ((50, 50), (1500, 50), (3, 1), ("100", "50")):
        assert epochs(steps, length) * int(length) == int(steps)


@pytest.mark.parametrize(
    ("steps", "length", "message"),
    [
        (120, 50, "epoch_length 50, got 120: use 100 or 150"),
        ("120", "50", "epoch_length 50, got 120: use 100 or 150"),
        (20, 50, "epoch_length 50, got 20: use 50"),
        (0, 0, "must be 1 or more, got 0 and 0"),
        (-5, 5, "must be 1 or more, got -5 and 5"),
        ("abc", 5, "max_steps and epoch_length take numbers, got 'abc' and 5"),
        (100, None, "max_steps and epoch_length take numbers, got 100 and None"),
    ],
)
def test_other_numbers_of_steps_are_refused(steps: Any, length: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        epochs(steps, length)


def test_monai_label_is_known_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONAI_LABEL_APP_DIR", raising=False)
    assert not inside_monai_label()
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", "/app")
    assert inside_monai_label()


@pytest.mark.parametrize(
    ("content", "untrained"),
    [
        ({"model": {}, "untrained": True}, True),
        ({"model": {}, "untrained": False}, False),
        ({"model": {}}, False),
        ({"untrained": torch.ones(1)}, False),  # a layer of that name
        ([1], False),
    ],
)
def test_untrained_weights_say_so(content: Any, untrained: bool, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    assert is_untrained(tmp_path / "model.pt") is untrained


def test_weights_that_cannot_be_read_say_nothing(tmp_path: Path) -> None:
    assert not is_untrained(tmp_path / "model.pt")
    (tmp_path / "model.pt").write_text("no weights")
    assert not is_untrained(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("max_step", r"Error: unknown setting 'max_step'; did you mean 'max_steps'\?"),
        ("modalty", r"Error: unknown setting 'modalty'; did you mean 'modality'\?"),
        ("zzz", r"Error: unknown setting 'zzz'\."),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest(name: str, message: str, config: Path) -> None:
    with pytest.raises(SystemExit, match=message):
        workflow(config, **{name: 1})


def test_text_for_a_number_is_refused_with_the_settings_name(config: Path) -> None:
    with pytest.raises(SystemExit, match=r"Error: max_steps takes a number, such as \d+, got 'abc'\."):
        workflow(config, max_steps="abc")


def test_a_setting_of_any_merged_file_is_known(config: Path, tmp_path: Path) -> None:
    (tmp_path / "method.yaml").write_text("temperature: 2\n")
    files = [str(config), str(tmp_path / "method.yaml")]
    assert workflow(files, temperature=3).parser["temperature"] == 3
    with pytest.raises(SystemExit, match="unknown setting 'temperature'"):
        workflow(config, temperature=3)


def test_an_unknown_setting_of_an_arguments_file_is_refused_too(config: Path, tmp_path: Path) -> None:
    (tmp_path / "args.json").write_text(json.dumps({"seeed": 3}))
    with pytest.raises(SystemExit, match="unknown setting 'seeed'; did you mean 'seed'"):
        workflow(config, args_file=str(tmp_path / "args.json"))


def test_the_command_line_says_it_in_one_line(config: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", str(config)]
    done = subprocess.run([*command, "--max_step", "3"], capture_output=True, text=True, cwd=config.parent)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "Error: unknown setting 'max_step'; did you mean 'max_steps'?"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    trained = {
        "spacing": [2.0, 2.0, 2.0],
        "modality": "CT",
        "network_def": {"_target_": "torch.nn.Linear", "in_features": 4},
    }
    (folder / "preprocessing.json").write_text(json.dumps(trained))
    (folder / "model.pt").touch()
    return folder / "model.pt"


def test_values_of_the_trained_model_stand_over_the_configs(config: Path, weights: Path) -> None:
    parser = workflow(config, weights=str(weights)).parser
    assert parser.get_parsed_content("spacing") == [2.0, 2.0, 2.0]
    assert parser["modality"] == "CT"
    assert parser["network_def"] == {"_target_": "torch.nn.Linear", "in_features": 4}
    assert parser["seed"] == 0


def test_a_setting_that_says_the_same_is_fine(config: Path, weights: Path) -> None:
    same = {"modality": "CT", "spacing": (2, 2, 2), "spacing#1": 2.0, "network_def#in_features": 4}
    for name, value in same.items():
        assert workflow(config, weights=str(weights), **{name: value}).parser["spacing"] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("modality", "MRI"),
        ("spacing", [1, 2, 2]),
        ("spacing#0", 1.0),
        ("network_def#in_features", 5),
        ("network_def#bias", 0),
    ],
)
def test_a_setting_that_contradicts_the_trained_model_is_refused(
    name: str, value: Any, config: Path, weights: Path
) -> None:
    shown = name.replace("#", "::")
    with pytest.raises(SystemExit, match=rf"Error: {shown} .* contradicts .*preprocessing\.json, which says .* Leave"):
        workflow(config, weights=str(weights), **{name: value})


def test_weights_that_are_missing_or_described_badly(
    config: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"gone\.pt: there are no weights here"):
        workflow(config, weights=str(tmp_path / "gone.pt"))
    weights.with_name("preprocessing.json").write_text("{")
    with pytest.raises(SystemExit, match=r"preprocessing\.json: is not valid JSON"):
        workflow(config, weights=str(weights))
    weights.with_name("preprocessing.json").unlink()
    caplog.clear()
    assert workflow(config, weights=str(weights)).parser["modality"] == "MRI"
    told = "there is no preprocessing.json beside it; it is taken for trained with the values"
    assert any(told in message for message in caplog.messages)
    caplog.clear()
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", str(tmp_path))  # whose app has its models' values
    workflow(config, weights=str(weights))
    assert not any(told in message for message in caplog.messages)
