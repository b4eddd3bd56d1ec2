"""The worst, the median and the best test case of a study, by the method and by the baseline."""

from __future__ import annotations

from collections.abc import Sequence

from monai_ssl.metrics.free_response import operating_score
from monai_ssl.report.case_pictures import Case, CasePictures, Model, list_case, picture_cases
from monai_ssl.report.drawing import Drawings
from monai_ssl.report.pairs import CasePair, worst_median_best
from monai_ssl.report.study_files import StudyFiles
from monai_ssl.report.tables import read_object
from monai_ssl.report.words import operating_words, outline_words
from monai_ssl.study.measures import task_of
from monai_ssl.study.plan import Plan
from monai_ssl.study.splits import HELD_OUT
from monai_ssl.study.steps import evaluation_settings
from monai_ssl.utils.keys import ListParts, RunFiles

__all__ = ["study_cases"]


def study_cases(
    study: StudyFiles, pairs: Sequence[CasePair], seed: int, drawings: Drawings, device: str | None
) -> CasePictures:
    """Show three cases with the predictions of both models of a seed.

    Args:
        study: a study.
        pairs: its test cases, with the figures of this seed.
        seed: of the models that predict.
        drawings: makes the pictures.
        device: for the predictions; None leaves it to the bundle.
    """
    plan, chosen = study.plan, worst_median_best(pairs, study.content["metric"])
    if plan is None or not chosen:
        return CasePictures()
    task = task_of(plan.bundle)
    listed = read_object(study.folder / HELD_OUT, study.name_of(study.folder / HELD_OUT), study.notes)
    entries = listed.get(ListParts.TEST, [])
    cases = []
    for rank, pair in chosen:
        found = list_case(plan.data.parent, entries[pair.number] if pair.number < len(entries) else None, task)
        if found is not None:
            figures = {study.method: pair.method, study.baseline: pair.baseline}
            cases.append(Case(rank, pair.name, *found, figures))
    if len(cases) < len(chosen):
        study.notes.append(
            "Scans of single cases are not where they were or cannot be read, so these cases are not shown."
        )
    models = [
        _model(study, plan, label, seed, key, device)
        for label, key in ((study.method, "method"), (study.baseline, "baseline"))
    ]
    shown = picture_cases(cases, models, task, study.content["findings"]["unit"], drawings, study.notes)
    by = "the method's figure" if task == "segmentation" else "what each scan adds to the method's figure"
    told = outline_words() if task == "segmentation" else operating_words()
    shown.words = f"Models of seed {seed}; the cases are chosen by {by}. {told}"
    return shown


def _model(study: StudyFiles, plan: Plan, label: str, seed: int, key: str, device: str | None) -> Model:
    method = next(one for one in plan.methods if one.label == label)
    settings = {**evaluation_settings(plan, method), **({} if device is None else {"device": device})}
    place = (study.budget, label, seed)
    weights = study.training(*place) / RunFiles.MODEL
    records = study.cases(*place) if task_of(plan.bundle) == "detection" else []
    least = operating_score(records) if records else 0.0
    return Model(label, key, plan.bundle, weights, study.run(*place), settings, least)
