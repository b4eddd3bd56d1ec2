"""The exponential-moving-average teacher of a student network."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

__all__ = ["copy_student", "dropout_active", "make_teacher", "update_average"]


def make_teacher(student: nn.Module) -> nn.Module:
    """A copy of the student that shares no storage with it, takes no gradient and is in evaluation mode."""
    teacher = copy.deepcopy(student)
    teacher.requires_grad_(False)
    return teacher.eval()


@torch.no_grad()
def copy_student(teacher: nn.Module, student: nn.Module) -> None:
    """Set every parameter and buffer of the teacher to the student's value."""
    for mine, theirs in _pairs(teacher, student):
        mine.copy_(theirs)


@torch.no_grad()
def update_average(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    r"""One step of the moving average, over parameters and floating-point buffers alike.

    .. math:: \theta' \leftarrow \alpha \theta' + (1 - \alpha) \theta

    Running statistics of batch norm are averaged too (the field's code averages parameters alone and lets the
    teacher's own passes move its statistics); integer buffers are copied.

    Args:
        teacher: the module that is changed in place.
        student: the module that is read.
        decay: :math:`\alpha`, in [0, 1]; 0 makes the teacher a copy.

    Raises:
        ValueError: when ``decay`` is outside [0, 1].

    Reference:
        A. Tarvainen, H. Valpola: Mean teachers are better role models, NeurIPS 2017,
        https://arxiv.org/abs/1703.01780, equation 1.
    """
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"`decay` must be in [0, 1], got {decay}.")
    averaged = [(mine, theirs) for mine, theirs in _pairs(teacher, student) if mine.is_floating_point()]
    torch._foreach_lerp_([mine for mine, _ in averaged], [theirs for _, theirs in averaged], 1.0 - decay)
    for mine, theirs in _pairs(teacher, student):
        if not mine.is_floating_point():
            mine.copy_(theirs)


@contextmanager
def dropout_active(network: nn.Module) -> Iterator[None]:
    """Within the block only the dropout layers of ``network`` are in training mode (Monte Carlo dropout)."""
    switched = [m for m in network.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and not m.training]
    for module in switched:
        module.train()
    try:
        yield
    finally:
        for module in switched:
            module.eval()


def _pairs(teacher: nn.Module, student: nn.Module) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(
        chain(teacher.parameters(), teacher.buffers()), chain(student.parameters(), student.buffers()), strict=True
    )
