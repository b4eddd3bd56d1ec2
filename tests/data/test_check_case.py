from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from monai_ssl.data.check_case import affine_faults, geometry_faults, image_faults, label_faults, spacing_of
from monai_ssl.data.check_facts import Volume

SHAPE = (20, 30, 40)


def volume(shape: tuple[int, ...] = SHAPE, affine: Any = None, **more: Any) -> Volume:
    numbers = {"minimum": 0.0, "maximum": 2.0, "mean": 1.0, "std": 1.0, "non_finite": 0, "values": {}, **more}
    rows = np.eye(4) if affine is None else np.asarray(affine, dtype=float)
    return Volume(shape, tuple(map(tuple, rows.tolist())), "digest", **numbers)


def rotation(degrees: float) -> np.ndarray:
    affine, angle = np.eye(4), np.radians(degrees)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return affine


def kinds(told: Any) -> list[str]:
    return [kind for kind, _ in told]


def moved(affine: np.ndarray, *mm: float) -> np.ndarray:
    changed = affine.astype(float).copy()
    changed[:3, 3] += mm
    return changed


FLIPPED_IN_PLACE = moved(np.diag([-1.0, 1, 1, 1]), SHAPE[0] - 1, 0, 0)


@pytest.mark.parametrize(
    ("shape", "affine", "expected"),
    [
        (SHAPE, np.eye(4), []),
        (SHAPE, np.eye(4) * (1 + 1e-5), []),  # rounding in a header
        (SHAPE, moved(np.eye(4), 0.05, 0, 0), []),
        (SHAPE, rotation(0.05), []),
        ((20, 30, 41), np.eye(4), ["shape"]),
        ((20, 30, 20), np.diag([1, 1, 2, 1]), ["shape", "spacing"]),
        (SHAPE, np.diag([1, 1, 1.01, 1]), ["spacing"]),
        (SHAPE, rotation(3), ["orientation"]),
        (SHAPE, np.diag([-1, 1, 1, 1]), ["orientation"]),
        (SHAPE, FLIPPED_IN_PLACE, ["orientation"]),
        (SHAPE, moved(FLIPPED_IN_PLACE, 0, 5, 0), ["orientation", "shift"]),
        (SHAPE, moved(np.eye(4), 0, 0, -0.5), ["shift"]),
        ((18, 28, 38), moved(np.eye(4), 1, 1, 1), ["shape"]),  # cropped around the centre
        ((18, 28, 38), moved(np.eye(4), 2, 2, 2), ["shape", "shift"]),
    ],
)
def test_geometry(shape: tuple[int, ...], affine: np.ndarray, expected: list[str]) -> None:
    assert kinds(geometry_faults(volume(), volume(shape, affine))) == expected


def test_geometry_is_told_in_words() -> None:
    other = moved(np.diag([-1.0, 1, 2.5, 1]), 100, 0, 0)
    told = dict(geometry_faults(volume(), volume((20, 30, 16), other)))
    assert told["shape"] == "has 20 x 30 x 16 voxels, its image 20 x 30 x 40"
    assert told["spacing"] == "has a spacing of 1 x 1 x 2.5 mm, its image 1 x 1 x 1"
    assert told["orientation"].startswith("has axes along LAS, its image RAS")
    assert told["shift"] == "lies 100 x 0 x 0 mm apart from its image"


@pytest.mark.parametrize(
    ("affine", "expected"),
    [
        (np.eye(4), []),
        (rotation(30) @ np.diag([0.5, 0.7, 5, 1]), []),
        (np.diag([1e-3, 1e-3, 1e-3, 1]), []),
        (np.diag([1, np.nan, 1, 1]), ["affine"]),
        (np.diag([1, 1, np.inf, 1]), ["affine"]),
        (np.diag([1, 0, 1, 1]), ["affine"]),
        (np.diag([1, 1e200, 1, 1]), ["affine"]),
        ([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], ["affine"]),
        ([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], ["sheared"]),
        ([[1, 0.005, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], []),
    ],
)
def test_affines(affine: Any, expected: list[str]) -> None:
    assert kinds(affine_faults(volume(affine=affine))) == expected


def test_shear_is_told_in_degrees() -> None:
    tilt = np.eye(4)
    tilt[1, 2] = np.tan(np.radians(12))
    (told,) = affine_faults(volume(affine=tilt))
    assert told == ("sheared", "has axes that are not perpendicular (by 12.0 degrees)")


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        (SHAPE, None, []),
        (SHAPE, 1, []),
        ((*SHAPE, 4), 4, []),
        ((*SHAPE, 4), None, []),
        (SHAPE, 4, ["channels"]),
        ((*SHAPE, 3), 4, ["channels"]),
        ((*SHAPE, 4), 1, ["dimensions"]),
        ((20, 30), 1, ["dimensions"]),
        ((20,), 1, ["dimensions"]),
        ((20, 1, 40), 1, ["dimensions"]),
        ((*SHAPE, 1, 3), 3, ["dimensions"]),
    ],
)
def test_dimensions_and_channels(shape: tuple[int, ...], channels: int | None, expected: list[str]) -> None:
    assert kinds(image_faults(volume(shape), channels)) == expected


def test_image_values() -> None:
    assert kinds(image_faults(volume(minimum=1.0, maximum=1.0))) == ["constant"]
    assert dict(image_faults(volume(non_finite=3))) == {"non_finite": "has 3 voxels that are NaN or infinite"}
    nan = float("nan")
    assert kinds(image_faults(volume(non_finite=9, minimum=nan, maximum=nan))) == ["non_finite"]


@pytest.mark.parametrize(("patch", "expected"), [(SHAPE, []), ((21, 1, 1), ["small"]), ((1, 1, 41), ["small"])])
def test_patch(patch: tuple[int, ...], expected: list[str]) -> None:
    assert kinds(image_faults(volume(), 1, patch)) == expected


@pytest.mark.parametrize(
    ("values", "classes", "expected"),
    [
        ({0.0: 5, 1.0: 2}, 2, []),
        ({1.0: 2}, 2, []),
        ({0.0: 5}, 2, ["empty_label"]),
        ({0.0: 5, 2.0: 1}, 2, ["label_values"]),
        ({-1.0: 1, 0.0: 5}, 2, ["label_values"]),
        ({-1.0: 1, 0.0: 5}, 0, ["label_values"]),
        ({0.0: 1, 17.0: 5}, 0, []),
        ({0.0: 1, 0.5: 5}, 2, ["label_fractions"]),
        ({-0.5: 1, 0.0: 5, 9.0: 1}, 2, ["label_fractions", "label_values"]),
    ],
)
def test_label_values(values: dict[float, int], classes: int, expected: list[str]) -> None:
    names = {n: f"class {n}" for n in range(classes)}
    assert kinds(label_faults(volume(values=values), names)) == expected


def test_label_values_are_shown_with_their_voxels() -> None:
    values = {float(n): n for n in range(20)}
    (told,) = label_faults(volume(values=values), {0: "background", 1: "liver"})
    shown = "2 (2 voxels), 3 (3 voxels), 4 (4 voxels), 5 (5 voxels), 6 (6 voxels), ..."
    assert told == ("label_values", f"has {shown}, and the list declares 0 to 1")


def test_a_label_has_no_channels() -> None:
    assert kinds(label_faults(volume((*SHAPE, 2), values={1.0: 1}), {})) == ["dimensions"]


def test_spacing() -> None:
    np.testing.assert_allclose(spacing_of(volume(affine=rotation(40) @ np.diag([2, 3, 4, 1]))), [2, 3, 4])
