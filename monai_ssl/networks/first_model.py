"""The first ``model.pt`` of a copied bundle, so that a server offers it before anything was trained."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser
from torch import nn

from monai_ssl.networks.transfer import load_weights, read_weights
from monai_ssl.utils.bundle import UNTRAINED, is_untrained
from monai_ssl.utils.bundle_files import MODEL, PREPROCESSING, mark_untrained
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import save_torch
from monai_ssl.utils.seeding import seed_torch
from monai_ssl.utils.weight_files import SAFETENSORS

__all__ = ["write_first_model"]


def write_first_model(bundle: str | os.PathLike[str], weights: str | os.PathLike[str]) -> Path:
    """Write ``models/model.pt`` of a bundle that has an ``inference.yaml``.

    Args:
        bundle: its folder.
        weights: a ``model.pt`` or safetensors that fit the bundle's network key by key; or ``untrained``, for
            the weights that a training with the bundle's seed starts from. Then the file says of itself that it is
            untrained, see :func:`~monai_ssl.utils.bundle.is_untrained`, and so does the description in
            ``metadata.json``.

    Returns:
        The file.

    Raises:
        UserError: when the bundle is one for pretraining, when ``weights`` is missing or does not fit, or when it is
            the model of a run, whose other values would be lost.
    """
    bundle = Path(bundle)
    train, inference = _config(bundle, "train"), _config(bundle, "inference")
    if "class_names" not in inference:
        raise UserError(
            "a bundle that pretrains finds nothing in a scan, and needs no first model. Leave out --weights."
        )
    with torch.random.fork_rng():
        # as the server makes it, and with what a training begins with
        seed_torch(int(train["seed"]), "initialisation")
        network: nn.Module = ConfigParser(inference).get_parsed_content("network_def")
    target = bundle / "models" / MODEL
    target.parent.mkdir(exist_ok=True)
    if os.fspath(weights) == UNTRAINED:
        save_torch({"model": network.state_dict(), UNTRAINED: True}, target)
    else:
        source = Path(weights)
        load_weights(network, source)
        if source.with_name(PREPROCESSING).is_file():
            raise UserError(
                f"{source}: is the model of a run, which has values of its own ({PREPROCESSING}). Give --from "
                f"{source.parent} instead, which takes them along."
            )
        if source.suffix == SAFETENSORS:
            save_torch(read_weights(source), target)  # the server reads nothing else
        else:
            shutil.copyfile(source, target)
    if is_untrained(target):
        mark_untrained(bundle)
    return target


def _config(bundle: Path, name: str) -> dict[str, Any]:
    path = bundle / "configs" / f"{name}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
