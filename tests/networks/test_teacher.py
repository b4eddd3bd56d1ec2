from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from monai_ssl.networks.teacher import copy_student, dropout_active, make_teacher, update_average
from tests import helpers


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.ReLU(), nn.Dropout3d(0.5), nn.Conv3d(3, 2, 1), nn.Dropout(0.5)
    )


def moved(student: nn.Module) -> None:
    """Let the student move: its parameters, and its running statistics by passes in training mode."""
    helpers.perturb([student], 0.5)
    for _ in range(3):
        student(torch.randn(2, 1, 5, 5, 5) * 3 + 1)


def test_a_teacher_is_a_frozen_copy_in_evaluation_mode() -> None:
    student = network()
    moved(student)
    teacher = make_teacher(student)
    assert helpers.same(teacher.state_dict(), student.state_dict())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not any(m.training for m in teacher.modules())
    assert all(p.requires_grad for p in student.parameters())
    assert all(m.training for m in student.modules())
    helpers.check_no_shared_storage(student, teacher)


def test_the_average_is_re_derived() -> None:
    student = network()
    teacher = make_teacher(student)
    expected = {name: value.double() for name, value in teacher.state_dict().items()}
    for decay in (0.9, 0.5, 0.99, 0.2):
        moved(student)
        update_average(teacher, student, decay)
        for name, value in student.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value.double()
            else:
                expected[name] = value.double()
        for name, value in teacher.state_dict().items():
            assert torch.allclose(value.double(), expected[name], atol=1e-6), name


def test_statistics_of_batch_norm_are_averaged_and_counters_copied() -> None:
    student = network()
    teacher = make_teacher(student)
    moved(student)
    before = teacher[1].running_mean.clone()
    update_average(teacher, student, 0.75)
    assert not torch.equal(teacher[1].running_mean, before)
    assert torch.allclose(teacher[1].running_mean, 0.75 * before + 0.25 * student[1].running_mean)
    assert teacher[1].num_batches_tracked.item() == student[1].num_batches_tracked.item() == 3


def test_decay_zero_is_a_copy_and_decay_one_leaves_the_teacher() -> None:
    student = network()
    teacher = make_teacher(student)
    moved(student)
    before = copy.deepcopy(dict(teacher.named_parameters()))
    update_average(teacher, student, 1.0)
    assert helpers.same(dict(teacher.named_parameters()), before)
    update_average(teacher, student, 0.0)
    assert helpers.same(teacher.state_dict(), student.state_dict())
    moved(student)
    copy_student(teacher, student)
    assert helpers.same(teacher.state_dict(), student.state_dict())


def test_no_storage_is_ever_shared_and_the_student_is_never_written() -> None:
    student = network()
    teacher = make_teacher(student)
    addresses = helpers.storages(teacher)
    for step in range(50):
        if step % 10 == 0:
            moved(student)
        before = copy.deepcopy(student.state_dict())
        update_average(teacher, student, (0.0, 0.9, 1.0)[step % 3])
        if step % 7 == 0:
            copy_student(teacher, student)
        assert helpers.same(student.state_dict(), before)
        helpers.check_no_shared_storage(student, teacher)
    assert helpers.storages(teacher) == addresses
    with torch.no_grad():
        kept = copy.deepcopy(teacher.state_dict())
        for tensor in (*student.parameters(), *student.buffers()):
            tensor.zero_()
    assert helpers.same(teacher.state_dict(), kept)


def test_an_update_builds_no_graph() -> None:
    student = network()
    teacher = make_teacher(student)
    update_average(teacher, student, 0.5)
    copy_student(teacher, student)
    assert all(p.grad_fn is None and not p.requires_grad for p in teacher.parameters())


def test_tied_weights_stay_tied() -> None:
    student = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    student[1].weight = student[0].weight
    teacher = make_teacher(student)
    assert teacher[1].weight is teacher[0].weight
    old = teacher[0].weight.clone()
    helpers.perturb([student])
    update_average(teacher, student, 0.5)
    assert torch.allclose(teacher[0].weight, (old + student[0].weight) / 2)


@pytest.mark.parametrize("decay", [-0.1, 1.01, float("nan")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    student = network()
    with pytest.raises(ValueError, match=r"`decay` must be in \[0, 1\], got (-0\.1|1\.01|nan)\."):
        update_average(make_teacher(student), student, decay)


def test_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        update_average(make_teacher(network()), nn.Linear(2, 2), 0.5)


def test_only_dropout_is_switched_on_and_all_is_restored() -> None:
    teacher = make_teacher(network())
    image = torch.randn(1, 1, 5, 5, 5)
    statistics = copy.deepcopy(teacher.state_dict())
    expected = teacher(image)
    with dropout_active(teacher):
        modes = [type(module).__name__ for module in teacher.modules() if module.training]
        assert modes == ["Dropout3d", "Dropout"]
        assert not torch.equal(teacher(image), teacher(image))
    assert not any(module.training for module in teacher.modules())
    assert torch.equal(teacher(image), expected)
    assert helpers.same(teacher.state_dict(), statistics)


def test_modes_are_restored_after_an_error_and_as_they_were() -> None:
    teacher = make_teacher(network())
    teacher[5].train()  # one dropout layer was on already
    with pytest.raises(RuntimeError, match="inside"), dropout_active(teacher):
        raise RuntimeError("inside")
    assert [module.training for module in teacher] == [False, False, False, False, False, True]
