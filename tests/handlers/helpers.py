"""A trainer that runs in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.objectives.base import Batch, Objective


class Toy(Objective):
    """Two terms, and a record of what became of the teacher."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 1), {"second": 0.5})
        self.calls: list[Any] = []
        self.scale = 1.0

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.network(batch["labeled"]["image"])
        return {"first": self.scale * (logits**2).mean(), "second": logits.abs().mean()}

    def reset_teacher(self) -> None:
        self.calls.append("reset")

    def update_teacher(self, step: int) -> None:
        self.calls.append(step)


BATCH = {"labeled": {"image": torch.ones(2, 2), "case": ["a.nii", "b.nii"]}, "unlabeled": {"case": ["c.nii"]}}


def trainer(*handlers: Any, **arguments: Any) -> SSLTrainer:
    objective = Toy()
    settings: dict[str, Any] = {"max_epochs": 2, "epoch_length": 3, "data_loader": [BATCH] * 6} | arguments
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    return SSLTrainer("cpu", objective=objective, optimizer=optimizer, handlers=handlers, **settings)
