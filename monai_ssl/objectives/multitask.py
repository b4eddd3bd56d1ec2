"""Pretext tasks on one encoder: their terms from one pass of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.objectives.base import Batch, Objective, Task

__all__ = ["Multitask"]


class Multitask(Objective):
    r"""A weighted sum of pretext tasks over one encoder; with one task, that task.

    .. code-block:: text

        f encoder, h_k heads, x_i the images that task i looks at
        z   = f(x)                         once for every different x
        L_i = task_i(h_k(z) for its heads)
        L   = sum_i w_i L_i

    With masked inpainting, rotation and contrastive crops it is the model of Swin UNETR. Where a task has a teacher, it
    follows the network.

    Args:
        network: encoder with the heads that the tasks name.
        tasks: their terms must have different names.
        weights: see :class:`Objective`.

    Raises:
        ValueError: when there is no task, or a task names a head that the network has not.

    Reference:
        Y. Tang et al.: Self-Supervised Pre-Training of Swin Transformers for 3D Medical Image Analysis, CVPR 2022,
        https://arxiv.org/abs/2111.14791, equation 6.
    """

    def __init__(
        self, network: PretextNetwork, tasks: Sequence[Task], weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(network, weights)
        unknown = [head for task in tasks for head in task.heads if head not in network.heads]
        if not tasks or unknown:
            reason = f"{unknown[0]!r} is no head; there are {', '.join(network.heads)}" if unknown else "got none"
            raise ValueError(f"`tasks` must be one task at least, with heads that the network has: {reason}.")
        self.tasks = nn.ModuleList(tasks)
        for task in tasks:
            task.make_teacher(network)

    @property
    def deployed(self) -> nn.Module:
        """The bare network, as a segmentation run builds it."""
        network: PretextNetwork = self.network  # type: ignore[assignment]
        return network.deployed

    def deployed_state(self) -> dict[str, Tensor]:
        """The encoder's entries, or all where a task reads the network's own output: no untrained decoder."""
        network: PretextNetwork = self.network  # type: ignore[assignment]
        return network.pretrained_state()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of all tasks."""
        entries = self.stream(batch, "unlabeled")
        tasks = self._tasks()
        terms: dict[str, Tensor] = {}
        self.figures = {}
        for image in dict.fromkeys(task.image for task in tasks):
            looking = [task for task in tasks if task.image == image]
            heads = dict.fromkeys(head for task in looking for head in task.heads)
            outputs = self.network(_cases(Task.entry(entries, image)), list(heads))
            for task in looking:
                own = task(outputs, entries)
                if own.keys() & terms.keys():
                    raise ValueError(f"two tasks have a term {min(own.keys() & terms.keys())!r}: name one otherwise.")
                terms |= own
                self.figures |= task.figures
        return terms

    def reset_teacher(self) -> None:
        """Copy the network into the teachers of the tasks."""
        for task in self._tasks():
            task.reset_teacher(self.network)  # type: ignore[arg-type]

    def update_teacher(self, step: int) -> None:
        """Let the teachers of the tasks follow the network."""
        for task in self._tasks():
            task.update_teacher(self.network, step)  # type: ignore[arg-type]

    def _tasks(self) -> list[Task]:
        return list(self.tasks)  # type: ignore[arg-type]


def _cases(images: Tensor) -> Tensor:
    """Views and tiles ``(B, V, C, H, W, D)`` go through the network as cases of their own."""
    return images.flatten(0, 1) if images.ndim == 6 else images
