from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from monai_ssl.handlers.weights_report import WeightsReport


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
