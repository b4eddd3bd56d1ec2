"""What to look at in a pool of unlabelled scans: those that are there twice, and those unlike the labelled ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation

from monai_ssl.data.check_alike import alike_pairs, sketch
from monai_ssl.data.check_case import affine_faults, spacing_of
from monai_ssl.data.check_cohort import robust_scores
from monai_ssl.data.check_facts import Fault, ScanFacts, Volume
from monai_ssl.data.check_list import Case
from monai_ssl.data.formats import stem_of

__all__ = ["POOL_KINDS", "exclude_line", "pool_faults", "ras_volume"]

POOL_KINDS = ("leak", "near_leak", "same_content", "duplicate", "near_duplicate", "outlier")
"""Kinds of faults that a pool's report is about, the most suspicious first."""

_FEWEST = 5
_FAR = 6.0  # robust standard deviations
_HELD_OUT = ("validation", "test")
_TRAINED_ON = ("training", "unlabeled")


def pool_faults(cases: Sequence[Case], facts: Mapping[str, ScanFacts]) -> Iterator[Fault]:
    """Yield the scans that are nearly another one, and the unlabelled ones that are unlike the labelled ones.

    Each scan that was read well is read once more. Copies, voxel by voxel, are told by
    :func:`~monai_ssl.data.check_cohort.same_scans`.

    Args:
        cases: of the list.
        facts: by the path of the file.
    """
    usable = {case.image_path: case for case in reversed(cases) if _is_usable(facts[case.image_path])}
    chosen = list(reversed(usable.values()))
    yield from _near_copies(chosen, facts)
    yield from _outliers(chosen, facts)


def ras_volume(path: str) -> np.ndarray:
    """Read the first channel of a scan, its axes in the order and direction of RAS.

    Args:
        path: in any format of :class:`~monai_ssl.data.readers.ScanReader`.

    Shape:
        - Output: ``(H, W, D)``, float32; what is not finite is 0
    """
    from monai_ssl.data.readers import ScanReader  # with MONAI, which a check without a pool does not need

    reader = ScanReader()
    array, meta = reader.get_data(reader.read(path))
    while array.ndim > 3:
        array = array[..., 0]
    turned = apply_orientation(array, io_orientation(np.asarray(meta["affine"], dtype=np.float64)))
    return np.nan_to_num(np.asarray(turned, dtype=np.float32), posinf=0.0, neginf=0.0)


def exclude_line(faults: Sequence[Fault], files: Iterable[str] = ()) -> str | None:
    """Return the setting that leaves the copies out of a training, one of each pair; None where there are none.

    Args:
        faults: of a check.
        files: all images as listed; where two have one name, they are told apart by their paths.
    """
    alike = Counter(map(stem_of, files))
    told = [fault for fault in faults if fault.kind in POOL_KINDS[:-1] and fault.part in _TRAINED_ON]
    names = list(dict.fromkeys(f.file if alike[f.case] > 1 else f.case for f in told))
    return f'--exclude "[{",".join(names)}]"' if names else None


def _is_usable(found: ScanFacts) -> bool:
    volume = found.volume
    return (
        volume is not None
        and found.problem is None
        and len(volume.shape) in (3, 4)
        and not any(affine_faults(volume))
        and 0 < volume.std < math.inf
    )


def _near_copies(cases: Sequence[Case], facts: Mapping[str, ScanFacts]) -> Iterator[Fault]:
    sketches = [sketch(ras_volume(case.image_path)) for case in cases]
    for first, second, likeness in alike_pairs(sketches):
        one, other = cases[first], cases[second]
        if _digest(one, facts) == _digest(other, facts):
            continue
        leaks = _side(one) != _side(other)
        # of a leak, the scan that is trained on is the one to leave out
        if leaks and one.part in _TRAINED_ON:
            one, other = other, one
        text = f"looks like {one.image} of `{one.part}` (correlation {likeness:.2f})"
        yield Fault("near_leak" if leaks else "near_duplicate", text, other.part, other.name, other.image)


def _digest(case: Case, facts: Mapping[str, ScanFacts]) -> object:
    volume = facts[case.image_path].volume
    return None if volume is None else (volume.shape, volume.digest)


def _side(case: Case) -> str:
    return case.part if case.part in _HELD_OUT else "training"


def _outliers(cases: Sequence[Case], facts: Mapping[str, ScanFacts]) -> Iterator[Fault]:
    """Compare unlabelled scans with labelled ones to train on, where there are enough of these."""
    labeled = [case for case in cases if case.part == "training"]
    pool = [case for case in cases if case.part == "unlabeled"]
    if len(labeled) < _FEWEST or not pool:
        return
    rows = [_looks(case, facts) for case in (*labeled, *pool)]
    spread = float(np.median([row[1] for row in rows[: len(labeled)]]))
    # what lies within these counts as alike
    columns = {
        "mean intensity": (slice(0, 1), 0.1 * spread),
        "deviation of intensities": (slice(1, 2), 0.1 * spread),
        "spacing": (slice(2, 5), 0.05),
        "field of view": (slice(5, 8), 0.1),
    }
    values = np.array(rows)
    for name, (place, least) in columns.items():
        chosen = values[:, place]
        scores = np.stack([robust_scores(column, least, len(labeled)) for column in chosen.T], 1).max(1)
        for case, score, row in zip(pool, scores[len(labeled) :], chosen[len(labeled) :], strict=True):
            if score > _FAR:
                usual = np.median(chosen[: len(labeled)], 0)
                text = f"has a {name} of {_words(name, row)}, the labelled scans {_words(name, usual)}"
                yield Fault("outlier", text, case.part, case.name, case.image)


def _looks(case: Case, facts: Mapping[str, ScanFacts]) -> list[float]:
    volume = facts[case.image_path].volume
    if volume is None:
        raise ValueError("of a scan that was read alone.")
    order = _world_order(volume)
    spacing = spacing_of(volume)
    extent = spacing * np.array(volume.shape[:3])
    return [volume.mean, volume.std, *np.log(spacing[order]), *np.log(extent[order])]


def _world_order(volume: Volume) -> np.ndarray:
    axes = io_orientation(np.asarray(volume.affine))[:, 0]
    return np.argsort(axes, kind="stable")


def _words(name: str, row: np.ndarray) -> str:
    if "intensit" in name:
        return f"{row[0]:.4g}"
    return " x ".join(f"{length:.4g}" for length in np.exp(row)) + " mm"
