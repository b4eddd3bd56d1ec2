from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.handlers import CheckpointLoader
from torch import nn

from monai_ssl.handlers.weights_report import WeightsReport, load_start
from monai_ssl.utils.errors import UserError
from tests.helpers import same


def tell(path: Path, network: nn.Module, caplog: pytest.LogCaptureFixture, enabled: bool = True) -> list[str]:
    engine = Engine(lambda _engine, _batch: None)
    WeightsReport(path, network, enabled).attach(engine)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="monai_ssl"):
        engine.run([0], max_epochs=1)
    return [f"{record.levelname} {record.message}" for record in caplog.records if record.name.startswith("monai_ssl")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_loaded_weights_are_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Linear(2, 3)
    network.load_state_dict(torch.load(file))
    (line,) = tell(file, network, caplog)
    assert line == f"INFO started from {file}: 2 matched"


def test_weights_that_were_not_loaded_are_told_too(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    (line,) = tell(file, nn.Linear(2, 3), caplog)
    assert line.startswith("INFO")
    assert "was not loaded" in line


def test_a_part_that_does_not_fit_is_a_warning(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Linear(5, 3)
    with torch.no_grad():
        network.bias.copy_(torch.load(file)["bias"])
    (line,) = tell(file, network, caplog)
    assert line == f"WARNING started from {file}: 1 matched, 1 mismatched (weight)"


def test_a_file_of_another_network_is_a_warning(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    (line,) = tell(file, nn.Sequential(nn.Linear(2, 3)), caplog)
    assert line.startswith("WARNING")
    assert "nothing of it fits" in line


def test_nothing_is_told_where_there_is_nothing(tmp_path: Path, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert tell(tmp_path / "none.pt", nn.Linear(2, 3), caplog) == []
    assert tell(file, nn.Linear(2, 3), caplog, enabled=False) == []


def test_an_untrained_file_is_undone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A host loads it after the network got its pretrained weights, when the run starts."""
    path, network = tmp_path / "model.pt", nn.Linear(2, 3)
    torch.save({"model": nn.Linear(2, 3).state_dict(), "untrained": True}, path)
    own = copy.deepcopy(network.state_dict())
    engine = Engine(lambda _engine, _batch: None)
    CheckpointLoader(str(path), {"model": network}, strict=False).attach(engine)
    loaded = []
    engine.add_event_handler(Events.STARTED, lambda: loaded.append(not same(network.state_dict(), own)))
    WeightsReport(path, network).attach(engine)
    with caplog.at_level(logging.INFO, logger="monai_ssl"):
        engine.run([0], max_epochs=1)
    assert loaded == [True], "the host's loader did its work"
    assert same(network.state_dict(), own)
    assert f"{path} is untrained, and its weights are not used" in caplog.messages


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights of an app's pretraining."""
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", str(tmp_path))
    path = tmp_path / "model" / "ssl_pretraining" / "models" / "model.pt"
    path.parent.mkdir(parents=True)
    torch.save(nn.Linear(2, 3).state_dict(), path)
    return path


def start(network: nn.Module, model: Path, pretrained: Path | None = None) -> str | None:
    report = load_start(network, pretrained, model)
    return None if report is None else report.file


def test_an_apps_pretraining_is_the_start_where_there_is_nothing_better(app: Path, tmp_path: Path) -> None:
    network, model = nn.Linear(2, 3), tmp_path / "model.pt"
    assert start(network, model) == str(app)
    assert same(dict(network.state_dict()), dict(torch.load(app)))
    torch.save({"model": network.state_dict(), "untrained": True}, model)
    assert start(network, model) == str(app)
    torch.save(network.state_dict(), model)
    assert start(network, model) is None, "a trained model goes first"
    other = tmp_path / "other.pt"
    torch.save(nn.Linear(2, 3).state_dict(), other)
    assert start(network, model, other) == str(other), "what is asked for goes before all"
    app.unlink()
    model.unlink()
    assert start(network, model) is None


def test_a_pretraining_of_another_network_is_told_and_nothing_is_loaded(
    app: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = nn.Linear(5, 4)
    own = copy.deepcopy(network.state_dict())
    assert start(network, tmp_path / "model.pt") is None
    assert same(network.state_dict(), own)
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert message.startswith(f"{app}: nothing of it fits")
    assert message.endswith("The training starts from scratch.")
    with pytest.raises(UserError, match="nothing of it fits"):
        start(network, tmp_path / "model.pt", app)


def test_outside_of_a_server_nothing_is_looked_for(app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONAI_LABEL_APP_DIR")
    assert start(nn.Linear(2, 3), tmp_path / "model.pt") is None
