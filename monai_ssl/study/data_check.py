"""The data of a study checked once, where each of its runs would check them again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from monai_ssl.data.check_training import check_scans
from monai_ssl.data.datalist import PARTS, absolute_path, channel_count, class_names
from monai_ssl.study.measures import task_of
from monai_ssl.utils.bundle import as_bool

__all__ = ["check_split", "unchecked"]


def check_split(
    split: Mapping[str, Any], source: Path, bundle: Path, settings: Mapping[str, Any], folder: Path
) -> None:
    """Refuse the cases of all parts, those of the test too, that have a fault; nothing but faults comes out.

    Args:
        split: the data list of the cases.
        source: the list that it is drawn from.
        bundle: its folder; one that has no setting ``check``, or has it off, has nothing checked.
        settings: of its trainings.
        folder: what paths are relative to.

    Raises:
        UserError: as :func:`~monai_ssl.data.check_training.check_scans` says.
    """
    if not as_bool(settings.get("check", _default(bundle))):
        return
    parts = {part: [_absolute(case, folder) for case in split.get(part, [])] for part in PARTS}
    classes = settings.get("class_names") or class_names(source, folder, ["background", "foreground"])
    check_scans(
        parts,
        datalist=source,
        dataset_dir=None if folder == source.parent else folder,
        channels=int(settings.get("in_channels", channel_count(source, folder))),
        classes=[] if task_of(bundle) == "detection" else classes,
    )


def unchecked(bundle: Path) -> dict[str, bool]:
    """The setting with which a training leaves its check out; none where the bundle has no such setting.

    Args:
        bundle: its folder.
    """
    return {"check": False} if as_bool(_default(bundle)) else {}


def _default(bundle: Path) -> Any:
    content = yaml.safe_load((bundle / "configs" / "train.yaml").read_text(encoding="utf-8"))
    return content.get("check", False)


def _absolute(case: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    paths = {key: case[key] for key in ("image", "label") if isinstance(case.get(key), str)}
    return {**case, **{key: absolute_path(file, folder) for key, file in paths.items()}}
