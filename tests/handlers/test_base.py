from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.utils import ImageMetaKey

from monai_ssl.handlers.base import CaseReport, file_name
from monai_ssl.utils.errors import UserError


class Sums(CaseReport):
    """The sum of each case's image; a negative one is no case."""

    drawn = 0

    def score_case(self, name: str, case: Mapping[str, Any]) -> float:
        total = float(case["image"].sum())
        if total < 0:
            raise UserError("its image is negative.")
        return total

    def summarise(self, cases: list[Any]) -> dict[str, Any]:
        return {"sums": cases}

    def publish(self, engine: Engine, summary: dict[str, Any]) -> str:
        engine.state.metrics["sum"] = sum(summary["sums"])
        return f"sum {engine.state.metrics['sum']:.0f}"

    def draw(self, summary: dict[str, Any]) -> None:
        self.drawn += 1


class Wall:
    def __init__(self) -> None:
        self.cleared = 0

    def clear(self) -> None:
        self.cleared += 1


def image(value: float, name: str = "a.nii.gz") -> MetaTensor:
    return MetaTensor(torch.full((1, 2), value), meta={ImageMetaKey.FILENAME_OR_OBJ: f"/scans/{name}"})


def evaluate(report: CaseReport, values: list[float], runs: int = 1) -> Engine:
    def step(engine: Engine, batch: Any) -> list[dict[str, Any]]:
        engine.state.batch = [{"image": image(batch)}]
        return [{"pred": torch.zeros(1)}]

    engine = Engine(step)
    report.attach(engine)
    for _ in range(runs):
        engine.run(values)
    return engine


def report_to(output: Any, overlay: Wall | None = None) -> Sums:
    return Sums(output, ["a"], "test", "model.pt", Path("list.json"), overlay)


def test_every_run_is_scored_afresh_written_and_drawn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wall = Wall()
    report = report_to(tmp_path / "metrics.json", wall)
    with caplog.at_level("INFO"):
        engine = evaluate(report, [1.0, 2.0], runs=2)
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"sums": [2.0, 4.0]}
    assert engine.state.metrics["sum"] == 6.0
    assert wall.cleared == report.drawn == 2
    assert "test: sum 6" in caplog.text
    assert report.list_name == "list.json"


def test_the_file_of_a_bad_case_is_named() -> None:
    with pytest.raises(UserError, match=r"^a\.nii\.gz: its image is negative\.$"):
        evaluate(report_to(print), [1.0, -1.0])


def test_cases_of_all_processes_are_gathered_and_the_first_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(gathered: list[Any], cases: list[Any]) -> None:
        gathered[:] = [cases, [10.0]]

    written: list[dict[str, Any]] = []
    monkeypatch.setattr("monai_ssl.handlers.base.idist.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    engine = evaluate(report_to(written.append), [1.0])
    assert written == [{"sums": [2.0, 10.0]}]
    monkeypatch.setattr("monai_ssl.handlers.base.idist.get_rank", lambda: 1)
    report = report_to(written.append)
    engine = evaluate(report, [1.0])
    assert len(written) == 1
    assert report.drawn == 0
    assert engine.state.metrics["sum"] == 12.0, "every process knows the figure"


def test_a_case_has_the_name_of_its_image_or_else_of_its_label() -> None:
    assert file_name({"image": image(0), "label": image(0, "b.nii")}) == "a.nii.gz"
    assert file_name({"image": torch.zeros(1), "label": image(0, "b.nii")}) == "b.nii"
    assert file_name({"image": torch.zeros(1), "label": torch.zeros(2)}) == "case without a file name"
