"""What was done, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_ssl.report.study_files import StudyFiles
from monai_ssl.report.words import without_folders
from monai_ssl.study.splits import HELD_OUT
from monai_ssl.study.words import joined, number_of, unit_of

__all__ = ["study_protocol", "versions_words"]


def study_protocol(study: StudyFiles) -> list[tuple[str, str]]:
    """Names and sentences on how a study was carried out.

    Args:
        study: the study.
    """
    content, plan = study.content, study.plan
    cases, validation = len(content["cases"]), content.get("validation_cases", 0)
    patients = len({*content.get("patients", range(cases))})
    of_patients = f" of {number_of(patients, 'patient')}" if patients < cases else ""
    said = [
        ("Compared", f"{joined(content['methods'])}; the baseline is {study.baseline}."),
        ("Named beforehand", f"{study.method} against {study.baseline} at {study.budget} labels, in "
         f"{unit_of(content['metric'])}; every other contrast is one of a corrected family."),
        ("Labels", f"Budgets of {joined(list(content['budgets']))} labelled cases; the rest of the pool is unlabelled, "
         "and a smaller budget is a part of a larger one."),
        ("Seeds", f"{joined([str(seed) for seed in content['seeds']])}. A seed is another draw of labelled cases and "
         "another initialisation, the same for every method."),
        ("Training", f"{number_of(content['steps'], 'optimiser step')} for every run; "
         + (f"the last checkpoint is scored, but for {joined(content['chosen'])}." if content.get("chosen") else
            "the last checkpoint is scored.")),
        ("Test", f"{number_of(cases, 'case')}{of_patients} that no training saw, the same for every run"
         + (f"; {number_of(validation, 'further case')} for validation." if validation else ".")),
        ("Patients told apart by", str(content.get("patient_rule", "not known"))),
        ("Data lists", f"{HELD_OUT.as_posix()}, and one for every budget and seed beside it."),
    ]  # fmt: skip
    if plan is not None:
        said.append(("Bundle", f"{plan.bundle.name}, on the list {plan.data.name}"))
        settings = {**plan.settings, **{f"evaluation {name}": value for name, value in plan.evaluation.items()}}
        if settings:
            told = "; ".join(f"{name}: {value}" for name, value in settings.items())
            said.append(("Settings of all runs", without_folders(told)))
    for grown in content.get("growth", []):
        said.append(("Added on the way", str(grown)))
    return [*said, *versions_words(study.manifest())]


def versions_words(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The programs that a run's manifest names.

    Args:
        manifest: content of ``run_manifest.json``; may be empty.
    """
    versions = manifest.get("versions")
    if not isinstance(versions, dict):
        return []
    told = [f"{name} {version}" for name, version in versions.items()]
    return [("Versions", without_folders(", ".join([*told, f"Python {manifest.get('python', '')}".strip()])))]
