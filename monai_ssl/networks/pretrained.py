"""What a pretraining learned, into the network of a downstream run, with a table of every key."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from monai_ssl.networks.key_maps import WRAPPERS, KeyMap, bare_keys, likely_maps
from monai_ssl.networks.key_matching import Meeting, Target, meet
from monai_ssl.networks.transfer import TransferReport, read_weights
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import sha256_of, write_json
from monai_ssl.utils.keys import RunFiles

__all__ = ["TransferReport", "load_pretrained"]

logger = logging.getLogger(__name__)

# what must agree between the two runs for the weights to see what they know; %s: the pretraining's, then this run's
_FIELDS = {
    "modality": "the pretraining saw %s volumes, this run sees %s: the same tissue has other intensities",
    "intensity_range": "the pretraining mapped the window %s HU, this run maps %s HU: the same tissue has other "
    "intensities",
    "bias_correction": "the pretraining had bias_correction %s, this run has %s: the same tissue has other intensities",
    "orientation": "the pretraining saw volumes in orientation %s, this run sees %s: the weights know the anatomy "
    "turned or mirrored",
    "spacing": "the pretraining saw voxels of %s mm, this run has %s mm: structures have another size in voxels",
    "in_channels": "the pretraining saw %s channel(s), this run has %s: the first convolution is adapted",
    "channel_names": "the pretraining saw the channels %s, this run has %s: each input meets the weights of another "
    "channel",
}


def load_pretrained(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    preprocessing: Mapping[str, Any] | None = None,
    report: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> TransferReport:
    """Load the weights of a pretraining into a network, as far as they fit, and say what became of every key.

    The form of the file (see :data:`~monai_ssl.networks.key_maps.KEY_MAPS`) is found from its keys: of the forms that
    they may have, the one that fills most of the encoder. Two things are adapted: convolutions of the image for another
    number of input channels (:func:`~monai_ssl.networks.transfer.spread_input_channels`), and positional embeddings for
    another grid of tokens (:func:`~monai_ssl.networks.transfer.resize_positions`) where both grids are known: from
    ``patch_size``, or because they are cubes. Whatever else has another shape is left out and listed.

    Args:
        network: changed in place, and only if nothing is wrong.
        path: a ``model.pt``, ``model.safetensors`` or ``pretext.pt`` of a pretraining, or weights of another project.
        preprocessing: this run's values of ``modality``, ``orientation``, ``spacing``, ``intensity_range``,
            ``in_channels``, ``channel_names`` and ``patch_size``, as far as it has them. They are compared with the
            ``preprocessing.json`` beside the weights, and each difference is a warning.
        report: where the report goes, as JSON.
        resume: ``True`` loads nothing, as ``resume.pt`` has the weights, and reads the report back; the file of the
            pretraining need not be there any more.

    Raises:
        UserError: when the file is missing or holds no weights, when nothing of it fits the network's encoder (of a
            network whose encoder is not known: the network), when a value is NaN or infinite, or when there is no
            report to resume with.
        ValueError: when ``resume`` is asked for without ``report``.
    """
    if resume:
        return _stored(network, report)
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there are no weights here. Give --pretrained RUN/model.pt.")
    weights = read_weights(path, WRAPPERS)
    theirs, ours = _settings_beside(path), dict(preprocessing or {})
    target = Target.of(network)
    bare = bare_keys(weights, target.own)
    forms = likely_maps(bare)
    sizes = (theirs.get("patch_size"), ours.get("patch_size"))
    best = max((meet(target, weights, bare, form, sizes) for form in forms), key=lambda meeting: meeting.score)
    if not best.score[0]:
        raise UserError(_nothing_fits(path, target, best, list(bare), forms))
    for name, value in best.values.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(
                f"{path}: {name} holds NaN or infinite values. Give an earlier checkpoint of the pretraining."
            )
    warnings = [*_compare(theirs, ours, path, preprocessing is not None), *_gaps(target, best)]
    result = best.report(target, weights, file=str(path), sha256=sha256_of(path), warnings=warnings)
    if report is not None:
        # a run may be handed on, the folders of this machine may not
        write_json(report, {**dataclasses.asdict(result), "file": path.name})
    network.load_state_dict({**network.state_dict(), **best.values})
    logger.info(str(result))
    logger.info(result.table())
    for warning in warnings:
        logger.warning(warning)
    return result


def _nothing_fits(path: Path, target: Target, best: Meeting, keys: Sequence[str], forms: Sequence[KeyMap]) -> str:
    wanted = [name for name in target.own if name in target.encoder] or list(target.own)
    whose = f"the encoder of {target.kind}" if target.encoder else target.kind
    clash = next((f"{name} is {best.mismatched[name]}" for name in wanted if name in best.mismatched), None)
    why = clash or f"its keys are like {keys[0]}, the network's like {wanted[0] if wanted else '(it has none)'}"
    reasons = "; ".join([why, *(form.note for form in forms if form.note)])
    return (
        f"{path}: nothing of it fits {whose}: {reasons}. Give weights of this network_def, or the "
        "network_def that they were trained with (preprocessing.json beside them may have it)."
    )


def _gaps(target: Target, best: Meeting) -> list[str]:
    found = []
    gaps = [name for name in target.own if name in target.encoder and name not in best.values]
    if gaps:
        found.append(
            f"{len(gaps)} of {len(target.encoder)} entries of the encoder are not pretrained and stay as initialised: "
            f"{', '.join(gaps[:3])}{', ..' if len(gaps) > 3 else ''}"
        )
    if best.form.note:
        found.append(best.form.note)
    return found


def _settings_beside(path: Path) -> dict[str, Any]:
    file = path.parent / RunFiles.PREPROCESSING
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: is not valid JSON ({error}). Restore it from the pretraining, or remove it."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: must hold a JSON object. Restore it from the pretraining, or remove it.")
    return content


def _compare(theirs: Mapping[str, Any], ours: Mapping[str, Any], path: Path, asked: bool) -> list[str]:
    if not asked:
        return []
    if not theirs:
        logger.info(
            f"{path}: no {RunFiles.PREPROCESSING} beside it: whether it saw volumes as this run cannot be compared"
        )
        return []
    fields = [name for name in _FIELDS if name in theirs and name in ours]
    modalities = {str(settings.get("modality", "CT")) for settings in (theirs, ours)}
    if modalities != {"CT"}:  # the window is of CT alone, and another modality is told already
        fields = [name for name in fields if name != "intensity_range"]
    return [
        _FIELDS[name] % (_words(theirs[name]), _words(ours[name]))
        for name in fields
        if not _same(theirs[name], ours[name])
    ]


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return math.isclose(left, right, rel_tol=1e-3)
    return bool(left == right)


def _words(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _stored(network: nn.Module, report: str | os.PathLike[str] | None) -> TransferReport:
    if report is None:
        raise ValueError("`report` must be given with `resume`: it says what was loaded when the run began.")
    path = Path(report)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
        }
        result = TransferReport(**fields)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: cannot be read as the report of a transfer ({type(error).__name__}), and a resumed run needs it "
            "to know which weights are pretrained. Restore it, or start anew with --overwrite true."
        ) from error
    strange = set(result.loaded) - network.state_dict().keys()
    if strange:
        raise UserError(
            f"{path}: names {min(strange)}, which this network has not. Resume with the network_def of the run."
        )
    logger.info(f"resumed: the weights are those of resume.pt; the run began with {result}")
    return result
