"""Faults that only the cases together show: one case in two parts, classes never drawn, scans far from the rest."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from monai_ssl.data.check_case import affine_faults, spacing_of
from monai_ssl.data.check_facts import Fault, ScanFacts, Volume
from monai_ssl.data.check_list import Case
from monai_ssl.data.check_mirror import MirrorTest, Pair

__all__ = ["far_scans", "flipped_labels", "missing_classes", "patients_apart", "robust_scores", "same_scans"]

_FEWEST = 5
_SIDEWAYS = 0.02  # of the width; classes that differ by less are in one place


def same_scans(cases: Sequence[Case], facts: Mapping[str, ScanFacts]) -> Iterator[Fault]:
    """Yield the cases that are another case again, by their file or by the values of their voxels.

    Blank scans are alike without being copies, and are left out.

    Args:
        cases: of the list.
        facts: by the path of the file.
    """
    files: dict[object, Case] = {}
    contents: dict[object, Case] = {}
    for case in cases:
        first = files.setdefault(_real(case.image_path), case)
        by, volume = "file", facts[case.image_path].volume
        if first is case and volume is not None and volume.digest and volume.minimum < volume.maximum:
            first, by = contents.setdefault((volume.shape, volume.digest), case), "content"
        if first is not case:
            yield _same(first, case, by)


def _same(first: Case, case: Case, by: str) -> Fault:
    parts = {first.part, case.part}
    leak = "unlabeled" in parts and bool(parts & {"validation", "test"})
    if leak and first.part == "unlabeled":  # it is the one to leave out
        first, case = case, first
    text = f"is in `{first.part}` too ({first.image})" if by == "file" else f"has the voxels of {first.image}"
    text += "" if by == "file" or first.part == case.part else f" in `{first.part}`"
    apart = "leak" if leak else "same_image" if by == "file" else "same_content"
    return Fault("duplicate" if first.part == case.part else apart, text, case.part, case.name, case.image)


def patients_apart(cases: Iterable[Case]) -> Iterator[Fault]:
    """Yield the cases of a patient who is on another side of the evaluation already.

    ``training`` and ``unlabeled`` are one side, ``validation`` and ``test`` a side each.

    Args:
        cases: of the list; those without a patient are not looked at.
    """
    seen: dict[str, Case] = {}
    for case in cases:
        if case.patient is None:
            continue
        first = seen.setdefault(case.patient, case)
        if _side(first) != _side(case):
            text = f"is of patient {case.patient}, as {first.image} in `{first.part}`"
            yield Fault("same_patient", text, case.part, case.name, case.image)


def missing_classes(cases: Sequence[Case], facts: Mapping[str, ScanFacts], classes: Mapping[int, str]) -> list[Fault]:
    """Return the declared classes that no label of ``training`` has; nothing where none could be read.

    Args:
        cases: of the list.
        facts: by the path of the file.
        classes: names by value; 0 is the background.
    """
    labels = [facts[case.label_path].volume for case in cases if case.part == "training" and case.label_path]
    seen = {value for volume in labels if volume is not None for value in volume.values}
    if not seen:
        return []
    return [
        Fault("missing_class", f"no label has class {value} ({name})", "training")
        for value, name in classes.items()
        if value and value not in seen
    ]


def far_scans(cases: Sequence[Case], facts: Mapping[str, ScanFacts]) -> Iterator[Fault]:
    """Yield the images whose spacing or intensities are far from those of all images, where there are five or more.

    Args:
        cases: of the list.
        facts: by the path of the file.
    """
    volumes: list[tuple[Case, Volume]] = []
    for case in {case.image_path: case for case in reversed(cases)}.values():
        volume = facts[case.image_path].volume
        if (
            volume is not None
            and len(volume.shape) > 2
            and not any(affine_faults(volume))
            and 0 < volume.std < math.inf
        ):
            volumes.append((case, volume))
    volumes.reverse()
    if len(volumes) < _FEWEST:
        return
    limit = 5 + 20 / len(volumes)  # the median of few scans is a rough guess: one false alarm in some 100 lists
    spacings = np.log([_world_order(volume) for _, volume in volumes])
    spread = np.array([(volume.mean, volume.std) for _, volume in volumes])
    # a spacing within 5 %, and intensities within a tenth of a scan's own spread, are alike
    by_spacing = np.stack([robust_scores(column, 0.05) for column in spacings.T], 1).max(1)
    alike = 0.1 * float(np.median(spread[:, 1]))
    by_intensity = np.stack([robust_scores(column, alike) for column in spread.T], 1).max(1)
    middle, usual = np.exp(np.median(spacings, 0)), np.median(spread, 0)
    for (case, volume), space, intensity in zip(volumes, by_spacing, by_intensity, strict=True):
        if space > limit:
            text = f"has a spacing of {_mm(_world_order(volume))} mm; the median is {_mm(middle)} mm"
            yield Fault("far_spacing", text, case.part, case.name, case.image)
        if intensity > limit:
            text = f"has intensities of {volume.mean:.4g} +- {volume.std:.4g}; the median is {_pm(usual)}"
            yield Fault("far_intensity", text, case.part, case.name, case.image)


def flipped_labels(cases: Sequence[Case], tests: Mapping[Pair, MirrorTest]) -> Iterator[Fault]:
    """Yield the labels that are mirrored left to right, as far as it shows.

    That is so where a label fits its image far better mirrored; or where it fits no worse, lies far from where its
    classes lie in the other cases, and would lie there mirrored. The latter takes five cases; more than a tenth on the
    other side are no fault, but organs of which there are two.

    Args:
        cases: of the list.
        tests: of those whose image and label could be compared.
    """
    compared = {(case.image_path, case.label_path): case for case in reversed(cases) if case.label_path}
    chosen = [(case, tests[pair]) for pair, case in reversed(compared.items()) if pair in tests]
    apart, mirrored = _from_the_usual_place([test for _, test in chosen])
    across = (apart > 3 + 20 / max(len(chosen), 1)) & (mirrored < apart / 2)
    across &= across.sum() <= max(len(chosen) // 10, 1)
    for (case, test), is_across in zip(chosen, across, strict=True):
        text = ""
        if test.gain > 0.04 + 1.5 / math.sqrt(max(test.faces, 1)):  # few faces fit anything now and then
            text = f"fits its image better mirrored left to right (by {test.gain:.2g})"
        elif is_across and test.gain > -0.02:
            text = "lies where the labels of the other cases do when it is mirrored left to right, and fits no worse"
        if text:
            yield Fault("flipped_label", text, case.part, case.name, case.label or "")


def _from_the_usual_place(tests: Sequence[MirrorTest]) -> tuple[np.ndarray, np.ndarray]:
    """Return how far classes are from their usual place, in robust deviations, as they are and mirrored; means."""
    sums, counts = np.zeros((2, len(tests))), np.zeros(len(tests))
    for value in {value for test in tests for value in test.places}:
        having = [number for number, test in enumerate(tests) if value in test.places]
        if len(having) < _FEWEST:
            continue
        places = np.array([tests[number].places[value] for number in having])
        sums[0, having] += robust_scores(places, _SIDEWAYS)
        sums[1, having] += robust_scores(np.concatenate([places, -places]), _SIDEWAYS, len(places))[len(places) :]
        counts[having] += 1
    apart, mirrored = sums / np.maximum(counts, 1)
    return apart, mirrored


def robust_scores(values: np.ndarray, least: float, count: int | None = None) -> np.ndarray:
    r"""Return how far each value is from the median, in robust standard deviations.

    .. math:: z_i = |x_i - \tilde{x}| \,/\, (1.4826 \max(\mathrm{MAD}(x), \mathit{least}))

    Args:
        values: one per scan.
        least: median absolute deviation below which values count as alike; above 0, else equal values make every
            rounding error a far one.
        count: number of the first values whose median and deviation are meant; all by default.

    Reference:
        B. Iglewicz, D. C. Hoaglin. How to Detect and Handle Outliers. ASQC Quality Press, 1993 (section 3.3).
    """
    apart = abs(values - np.median(values[:count]))
    return apart / (1.4826 * max(float(np.median(apart[:count])), least))


def _world_order(volume: Volume) -> np.ndarray:
    spacing, axes = spacing_of(volume), abs(np.asarray(volume.affine)[:3, :3])
    return spacing[np.argsort(axes.argmax(0), kind="stable")]


def _side(case: Case) -> str:
    return "training" if case.part == "unlabeled" else case.part


def _mm(lengths: np.ndarray) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths)


def _pm(pair: np.ndarray) -> str:
    return " +- ".join(f"{number:.4g}" for number in pair)


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # no path at all, which reading it has told
        return path
