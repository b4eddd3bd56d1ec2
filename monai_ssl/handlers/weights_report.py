"""What a host has loaded into the network, said aloud."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_ssl.networks.transfer import compare_keys, read_weights

__all__ = ["WeightsReport"]

logger = logging.getLogger(__name__)


class WeightsReport:
    """Tells at the start which weights of a file are in the network.

    MONAI Label loads the model that is there with a non-strict ``CheckpointLoader``, which passes over keys that do
    not fit without a word. Place this handler after it.

    Args:
        path: the file that may have been loaded.
        network: where to.
        enabled: ``False`` does nothing, so that a config can carry the handler always.
    """

    def __init__(self, path: str | os.PathLike[str], network: nn.Module, enabled: bool = True) -> None:
        self.path = Path(path)
        self.network = network
        self.enabled = enabled

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        if self.enabled:
            engine.add_event_handler(Events.STARTED, self._tell)

    def _tell(self, engine: Engine) -> None:
        if engine.state.iteration > 0 or not self.path.is_file():
            return
        weights, own = read_weights(self.path), self.network.state_dict()
        report = compare_keys(weights, self.network)
        if not report.matched:
            logger.warning(f"{self.path}: nothing of it fits this network: {report}. The training starts from scratch.")
        elif all(torch.equal(own[name].cpu(), weights[name]) for name in report.matched):
            logger.log(logging.INFO if report.complete else logging.WARNING, f"started from {self.path}: {report}")
        else:
            logger.info(f"{self.path} is there and was not loaded: the training starts from scratch")
