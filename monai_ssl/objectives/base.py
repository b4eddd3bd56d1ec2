"""What a training method is: networks, and a forward pass from a batch to named loss terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.networks.teacher import copy_student, update_average
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.schedules import ema_decay

__all__ = ["Batch", "Objective", "Task", "TeacherObjective"]

_Self = TypeVar("_Self", bound="TeacherObjective")  # typing has it from Python 3.11 on

Batch = Mapping[str, Mapping[str, Tensor]]


class Objective(nn.Module):
    """A training method.

    A subclass owns its networks and says in :meth:`forward` which network sees which view and what is compared. It
    knows no optimiser, device, log or step counter, so it can be tested with a batch and nothing else.

    Args:
        network: the network that learns; maps an image to logits.
        weights: weight of each loss term by name; a term that is not named weighs 1. Handlers may change them
            between steps.

    Attributes:
        weights: see above.
        progress: share of the run that is done, in [0, 1]; the trainer sets it before every step.
        figures: numbers of the last forward pass that are logged and not learned from, such as an accuracy.
    """

    def __init__(self, network: nn.Module, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.network = network
        self.weights: dict[str, float] = dict(weights or {})
        self.progress = 0.0
        self.figures: dict[str, Tensor] = {}

    @property
    def deployed(self) -> nn.Module:
        """The network that goes into ``model.pt``."""
        return self.network

    @property
    def labeler(self) -> nn.Module:
        """The network that labels unlabelled images, maps an image to logits; an audit looks at what it says."""
        return self.deployed

    @property
    def learner(self) -> nn.Module:
        """The network that learns from these labels, maps an image to logits."""
        return self.network

    @property
    def label_threshold(self) -> float:
        """Confidence above which a label is learned from, in [0, 1)."""
        return 0.0

    def deployed_state(self) -> dict[str, Tensor]:
        """The entries of the deployed network's state dict that training has trained: all, unless overridden."""
        return self.deployed.state_dict()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The named, unweighted loss terms of a batch.

        Args:
            batch: ``{"labeled": {"image", "label"}, "unlabeled": {"image"}}``; a stream that is not loaded is absent.
        """
        raise NotImplementedError

    @staticmethod
    def stream(batch: Batch, name: str) -> Mapping[str, Tensor]:
        """A stream that the method cannot do without.

        Raises:
            UserError: when the batch has none.
        """
        if name not in batch:
            raise UserError(f"this method needs {name} cases: set {name}_batch_size to 1 or more.")
        return batch[name]

    @staticmethod
    def entry(entries: Mapping[str, Tensor], name: str) -> Tensor:
        """An entry of the unlabelled stream that the method cannot do without, such as a strong view.

        Raises:
            UserError: when the stream has none.
        """
        if name not in entries:
            raise UserError(
                f"this method needs the entry {name!r} in the unlabelled stream; it has {', '.join(entries)}. Make it "
                "with a transform in `views`."
            )
        return entries[name]

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of the terms: what is differentiated."""
        return torch.stack([self.weights.get(name, 1.0) * term for name, term in terms.items()]).sum()

    def reset_teacher(self) -> None:
        """Make the teachers copies of their students, where the method has teachers."""

    def update_teacher(self, step: int) -> None:
        """Let the teachers follow their students, after optimiser step ``step`` (counted from 0)."""


class TeacherObjective(Objective):
    r"""A training method whose unlabelled targets come from a moving average of the student, which is deployed.

    .. code-block:: text

        after step t: g <- a g + (1 - a) f,  a = min(1 - 1/(t + 1), decay)

    A subclass sets ``teacher`` with :func:`~monai_ssl.networks.make_teacher`, or to None, and has its forward pass. One
    with several teachers overrides :meth:`averages` instead, and one with another decay :meth:`teacher_decay`.

    Args:
        network: the student f; maps an image to logits.
        decay: the largest decay of the moving average, in [0, 1).
        threshold: confidence above which a label of the teacher is learned from, in [0, 1); 0 keeps all.
        weights: see :class:`Objective`.

    Attributes:
        teacher: the moving average g, or None where the student is its own teacher or learns from labels alone.

    Raises:
        ValueError: when ``decay`` or ``threshold`` is out of range.
    """

    def __init__(
        self, network: nn.Module, decay: float, threshold: float = 0.0, weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(network, weights)
        for name, value in (("decay", decay), ("threshold", threshold)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"`{name}` must be in [0, 1), got {value}.")
        self.decay = decay
        self.threshold = threshold

    def averages(self) -> nn.ModuleList:
        """The moving averages of the student: the teacher, where there is one."""
        teacher: Any = self.teacher
        return nn.ModuleList([] if teacher is None else [teacher])

    @property
    def deployed(self) -> nn.Module:
        """The teacher, smoother than the last student, or the first of several; the student where there is none."""
        return next(iter(self.averages()), self.network)

    @property
    def label_threshold(self) -> float:
        """Confidence above which a label is learned from."""
        return self.threshold

    def train(self: _Self, mode: bool = True) -> _Self:
        """Switch the student's mode; the teachers stay in evaluation mode."""
        super().train(mode)
        self.averages().eval()
        return self

    def reset_teacher(self) -> None:
        """Copy the student into the teachers."""
        for teacher in self.averages():
            copy_student(teacher, self.network)

    def update_teacher(self, step: int) -> None:
        """Average the student into the teachers."""
        for teacher in self.averages():
            update_average(teacher, self.network, self.teacher_decay(step))

    def teacher_decay(self, step: int) -> float:
        """Decay of the moving average after optimiser step ``step``; it starts as a plain mean."""
        return ema_decay(step, maximum=self.decay)


class Task(nn.Module):
    """A pretext task: which images it looks at, which heads it reads, what it compares.

    It owns no network that learns, so that any number of tasks share one; :class:`~monai_ssl.objectives.Multitask` runs
    them, and lets the teachers follow the network where a task has one.

    Args:
        image: entry of the unlabelled stream that goes through the network.
        heads: names of the heads whose outputs it reads.

    Attributes:
        figures: see :class:`Objective`.
    """

    def __init__(self, image: str, heads: Sequence[str]) -> None:
        super().__init__()
        self.image = image
        self.heads = tuple(heads)
        self.figures: dict[str, Tensor] = {}

    def forward(self, outputs: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The named, unweighted loss terms.

        Args:
            outputs: of the heads, by name.
            entries: the unlabelled stream of the batch.
        """
        raise NotImplementedError

    def make_teacher(self, network: PretextNetwork) -> None:
        """Make a teacher of the network whose heads are read, where the task has one; called once, before all else."""

    def reset_teacher(self, network: PretextNetwork) -> None:
        """Make the teacher a copy of the network, where the task has one."""

    def update_teacher(self, network: PretextNetwork, step: int) -> None:
        """Let the teacher follow the network, after optimiser step ``step`` (counted from 0)."""

    @staticmethod
    def entry(entries: Mapping[str, Tensor], name: str) -> Tensor:
        """An entry that the task cannot do without.

        Raises:
            UserError: when the stream has none.
        """
        if name not in entries:
            raise UserError(
                f"this task needs the entry {name!r} in the unlabelled stream; it has {', '.join(entries)}."
            )
        return entries[name]
