"""Where the model and the scans of an evaluation are, which its own files do not say: they name no folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_ssl.study.frozen_plan import PLAN
from monai_ssl.study.measures import Task
from monai_ssl.study.plan import slug
from monai_ssl.study.plan_file import read_plan
from monai_ssl.study.splits import HELD_OUT
from monai_ssl.study.steps import evaluation_settings
from monai_ssl.utils.bundle_files import bundle_path
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.keys import RunFiles

__all__ = ["GivenData", "RunSources", "find_sources"]

_BUNDLES: dict[Task, str] = {"segmentation": "semi_segmentation", "detection": "focalmix_detection"}
_DEPTH = 6  # folders from an evaluation up to its study


@dataclass(frozen=True)
class GivenData:
    """What a user says of the evaluation of a run.

    Attributes:
        datalist: its data list.
        dataset_dir: folder that the list's paths are relative to; None: the list's own.
        weights: its model; None: beside the figures, or in the folder of the run.
    """

    datalist: Path | None = None
    dataset_dir: Path | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class RunSources:
    """What cases are predicted again with.

    Attributes:
        bundle: its folder.
        weights: file of the model.
        datalist: the list that was scored.
        dataset_dir: folder that its paths are relative to; None: its own.
        settings: of the evaluation, as far as they are known.
    """

    bundle: Path
    weights: Path
    datalist: Path
    dataset_dir: Path | None
    settings: Mapping[str, Any]


def find_sources(
    folder: Path, scored: Path, figures: Mapping[str, Any], manifest: Mapping[str, Any], task: Task, given: GivenData
) -> RunSources | None:
    """Take what the user says, else what the plan of the study around the run says; None where neither does.

    Args:
        folder: of the run.
        scored: its file of figures.
        figures: content of that file.
        manifest: content of ``run_manifest.json``; may be empty.
        task: of the run.
        given: by the user.
    """
    trained = manifest.get("settings")
    # of a training's other settings some are another matter in an evaluation, as `max_boxes` of a patch and of a scan
    known = {"coordinates": trained["coordinates"]} if isinstance(trained, dict) and "coordinates" in trained else {}
    known |= {name: figures[name] for name in ("iou_threshold", "coordinates") if name in figures}
    weights = given.weights or _weights(folder, scored, str(figures.get("weights", RunFiles.MODEL)))
    if given.datalist is not None or given.dataset_dir is not None:
        listed = given.datalist or Path(str(given.dataset_dir))
        return RunSources(bundle_path(_BUNDLES[task]), weights, listed, given.dataset_dir, known)
    study = next((place for place in (folder, *folder.parents)[:_DEPTH] if (place / PLAN).is_file()), None)
    if study is None:
        return None
    try:
        plan = read_plan(study / PLAN)
    except UserError:
        return None
    own = [method for method in plan.methods if slug(method.label) in folder.parts]
    settings = {**known, **evaluation_settings(plan, own[0] if own else None)}
    return RunSources(plan.bundle, weights, study / HELD_OUT, plan.data.parent, settings)


def _weights(folder: Path, scored: Path, name: str) -> Path:
    places = [scored.parent / name, folder / name, folder.parent / name]
    return next((path for path in places if path.is_file()), places[1])
