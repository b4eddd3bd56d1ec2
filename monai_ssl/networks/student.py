"""The student of a run, whose teacher is what is deployed."""

from __future__ import annotations

import copy
import os
from typing import TypeVar

from torch import nn

from monai_ssl.networks.transfer import compare_keys, read_weights
from monai_ssl.utils.errors import UserError

__all__ = ["has_teacher", "load_student"]

Network = TypeVar("Network", bound=nn.Module)

_PREFIX = "network."
_TEACHERS = ("teacher.", "teachers.")


def load_student(network: Network, path: str | os.PathLike[str]) -> Network:
    """Load the network that learns out of a run's ``resume.pt``; its ``model.pt`` may hold a teacher instead.

    Args:
        network: of the run's class and shapes; it is copied.
        path: the ``resume.pt``; or safetensors of its entry ``objective``, where the network's names begin with
            ``network.``.

    Returns:
        A copy of the network with the student's weights, on its device.

    Raises:
        UserError: when the file is missing or broken, or its network is another.
    """
    state = read_weights(path, ("objective",))
    weights = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    report = compare_keys(weights, network)
    if not report.complete:
        raise UserError(
            f"{path}: holds no student that fits this network: {report}. Give the resume.pt beside the weights."
        )
    student = copy.deepcopy(network)
    student.load_state_dict(weights)
    return student


def has_teacher(path: str | os.PathLike[str]) -> bool:
    """Whether a run's ``resume.pt`` holds a teacher beside the network that learns, so that the two can disagree.

    Args:
        path: the file.

    Raises:
        UserError: when it is missing or broken.
    """
    return any(name.startswith(_TEACHERS) for name in read_weights(path, ("objective",)))
