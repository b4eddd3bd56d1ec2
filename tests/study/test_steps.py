from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from monai.networks.nets import BasicUNet

from monai_ssl.losses import MaskedDiceCELoss
from monai_ssl.objectives import FixMatch
from monai_ssl.study.plan import RunSpec
from monai_ssl.study.plan_file import read_plan
from monai_ssl.study.steps import Step, suggestion_step, switch, training_step
from monai_ssl.utils.errors import UserError
from tests.study.helpers import write_plan, write_rounds_plan


def test_a_process_writes_where_its_settings_say() -> None:
    assert Step("test", ("evaluate.yaml",), {"output_dir": "a/b"}).folder == Path("a/b")


def test_a_training_goes_on_where_there_is_a_checkpoint(tmp_path: Path) -> None:
    assert switch(tmp_path) == {"overwrite": True}
    (tmp_path / "resume.pt").touch()
    assert switch(tmp_path) == {"resume": True}


@pytest.mark.parametrize("decay", [0.9, None])
def test_a_student_is_asked_where_there_is_a_teacher_beside_it(decay: float | None, tmp_path: Path) -> None:
    plan = read_plan(write_rounds_plan(tmp_path, settings={"device": "cpu", "learning_rate": 1}))
    objective = FixMatch(BasicUNet(3, 1, 2, features=(4,) * 6), MaskedDiceCELoss(), decay=decay)
    torch.save({"objective": objective.state_dict(), "step": 1}, tmp_path / "resume.pt")
    spec = RunSpec("4", plan.methods[2], 7)
    step = suggestion_step(plan, spec, tmp_path / "suggest", tmp_path / "pool.json", tmp_path, 3)
    assert step.settings == {
        **{"device": "cpu", "dataset_dir": tmp_path / "data", "datalist": tmp_path / "pool.json", "seed": 7},
        **{"output_dir": tmp_path / "suggest", "overwrite": True, "strategy": "uncertainty", "count": 3},
        **{"weights": tmp_path / "model.pt", **({"student": tmp_path / "resume.pt"} if decay else {})},
    }
    assert (objective.deployed is not objective.network) is bool(decay)


def test_a_checkpoint_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    plan = read_plan(write_rounds_plan(tmp_path))
    (tmp_path / "resume.pt").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"resume\.pt: cannot be read as weights"):
        suggestion_step(plan, RunSpec("4", plan.methods[2], 0), tmp_path, tmp_path / "pool.json", tmp_path, 1)


def test_a_training_excludes_what_the_plan_has_not(tmp_path: Path) -> None:
    plan = read_plan(write_plan(tmp_path, settings={"exclude": "a,b", "learning_rate": 1}))
    for given, left in (({}, None), ({"exclude": ["b"]}, None), ({"exclude": "[b,c]"}, ["c"])):
        method = replace(plan.methods[0], settings=given)
        step = training_step(plan, RunSpec("2", method, 0), tmp_path, tmp_path / "list.json", None, {})
        assert step.settings.get("exclude") == left
        assert step.settings["learning_rate"] == 1
