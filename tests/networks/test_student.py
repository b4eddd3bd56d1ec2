from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from monai_ssl.networks.student import has_teacher, load_student
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.weight_files import save_safetensors


def checkpoint(path: Path, network: nn.Module) -> Path:
    teacher = nn.Conv3d(1, 2, 1)
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    state |= {f"teacher.{name}": value for name, value in teacher.state_dict().items()}
    torch.save({"format": 1, "objective": state, "weights": {"consistency": 0.5}, "iteration": 3}, path)
    return path


def test_the_student_is_loaded_and_not_the_teacher(tmp_path: Path) -> None:
    student = nn.Conv3d(1, 2, 1)
    given = nn.Conv3d(1, 2, 1)
    before = given.weight.clone()
    loaded = load_student(given, checkpoint(tmp_path / "resume.pt", student))
    assert torch.equal(given.weight, before)
    assert torch.equal(loaded.weight, student.weight)
    assert torch.equal(loaded.bias, student.bias)


def test_what_is_no_student_is_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "resume.pt", nn.Conv3d(1, 2, 1))
    with pytest.raises(UserError, match=r"resume\.pt: holds no student that fits this network: .* mismatched"):
        load_student(nn.Conv3d(3, 2, 1), path)
    torch.save(nn.Conv3d(1, 2, 1).state_dict(), tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"model\.pt: holds no student"):
        load_student(nn.Conv3d(1, 2, 1), tmp_path / "model.pt")
    with pytest.raises(UserError, match="there are no weights here"):
        load_student(nn.Conv3d(1, 2, 1), tmp_path / "nothing.pt")


def test_whether_there_is_a_teacher_beside_it(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "resume.pt", nn.Conv3d(1, 2, 1))
    assert has_teacher(path)
    torch.save({"objective": {"network.a": torch.zeros(1), "teachers.0.a": torch.zeros(1)}}, tmp_path / "two.pt")
    assert has_teacher(tmp_path / "two.pt"), "a method with two of them"
    content = torch.load(path, weights_only=True)
    content["objective"] = {name: value for name, value in content["objective"].items() if name.startswith("network.")}
    torch.save(content, path)
    assert not has_teacher(path)
    with pytest.raises(UserError, match="there are no weights here"):
        has_teacher(tmp_path / "nothing.pt")


def test_safetensors_of_the_objective_hold_a_student_and_those_of_a_model_none(tmp_path: Path) -> None:
    student = nn.Conv3d(1, 2, 1)
    objective = torch.load(checkpoint(tmp_path / "resume.pt", student), weights_only=True)["objective"]
    save_safetensors(objective, tmp_path / "student.safetensors")
    assert torch.equal(load_student(nn.Conv3d(1, 2, 1), tmp_path / "student.safetensors").weight, student.weight)
    assert has_teacher(tmp_path / "student.safetensors")
    save_safetensors(student.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors: holds no student"):
        load_student(nn.Conv3d(1, 2, 1), tmp_path / "model.safetensors")
