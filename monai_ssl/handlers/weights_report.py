"""What a training inside MONAI Label starts from: the model that is there, a pretraining's weights, or nothing."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from monai_ssl.networks.pretrained import load_pretrained
from monai_ssl.networks.transfer import TransferReport, compare_keys, read_weights
from monai_ssl.utils.bundle import inside_monai_label, is_untrained
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.keys import RunFiles

__all__ = ["WeightsReport", "load_start"]

logger = logging.getLogger(__name__)

_PRETRAINING = "ssl_pretraining"  # the bundle's folder beside others in an app's `model`


def load_start(
    network: nn.Module,
    pretrained: str | os.PathLike[str] | None,
    model: str | os.PathLike[str],
    **kwargs: Any,
) -> TransferReport | None:
    """Load the pretrained weights that a run starts from.

    These are what the setting names. Inside MONAI Label, where it names none and ``model`` is missing or untrained,
    they are those of the app's ``ssl_pretraining``, if that has been trained; where they do not fit, one line says so.

    Args:
        network: changed in place.
        pretrained: the setting.
        model: the file that the host loads into the network when training starts.
        kwargs: see :func:`~monai_ssl.networks.pretrained.load_pretrained`.

    Returns:
        What was loaded; ``None`` where the run starts without pretrained weights.

    Raises:
        UserError: as :func:`~monai_ssl.networks.pretrained.load_pretrained`, for weights that the setting names.
    """
    if pretrained:
        return load_pretrained(network, pretrained, **kwargs)
    found = _of_the_app(Path(model))
    if found is None:
        return None
    try:
        return load_pretrained(network, found, **kwargs)
    except UserError as error:
        logger.warning(f"{error} The training starts from scratch.")
        return None


def _of_the_app(model: Path) -> Path | None:
    if not inside_monai_label() or (model.is_file() and not is_untrained(model)):
        return None
    found = Path(os.environ["MONAI_LABEL_APP_DIR"]) / "model" / _PRETRAINING / "models" / RunFiles.MODEL
    return found if found.is_file() else None


class WeightsReport:
    """Tells at the start which weights of a file are in the network, and undoes it where the file is untrained.

    MONAI Label loads the model that is there with a non-strict ``CheckpointLoader``, which passes over keys that do
    not fit without a word, and would put the weights of an untrained model over pretrained ones. Place this handler
    after it.

    Args:
        path: the file that may have been loaded.
        network: where to; it must have its pretrained weights already.
        enabled: ``False`` does nothing, so that a config can carry the handler always.
    """

    def __init__(self, path: str | os.PathLike[str], network: nn.Module, enabled: bool = True) -> None:
        self.path = Path(path)
        self.network = network
        self.enabled = enabled
        self._own: dict[str, Tensor] | None = None

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        if not self.enabled:
            return
        if is_untrained(self.path):
            self._own = {name: value.clone() for name, value in self.network.state_dict().items()}
        engine.add_event_handler(Events.STARTED, self._tell)

    def _tell(self, engine: Engine) -> None:
        if engine.state.iteration > 0 or not self.path.is_file():
            return
        if self._own is not None:
            self.network.load_state_dict(self._own)
            logger.info(f"{self.path} is untrained, and its weights are not used")
            return
        weights, own = read_weights(self.path), self.network.state_dict()
        report = compare_keys(weights, self.network)
        if not report.matched:
            logger.warning(f"{self.path}: nothing of it fits this network: {report}. The training starts from scratch.")
        elif all(torch.equal(own[name].cpu(), weights[name]) for name in report.matched):
            logger.log(logging.INFO if report.complete else logging.WARNING, f"started from {self.path}: {report}")
        else:
            logger.info(f"{self.path} is there and was not loaded: the training starts from scratch")
