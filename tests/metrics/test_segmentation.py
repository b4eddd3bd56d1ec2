from __future__ import annotations

import itertools
import json
import warnings

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from monai.networks import one_hot
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from monai_ssl.metrics.segmentation import case_record, segmentation_scores, summarise
from monai_ssl.utils.errors import UserError

NAMES = ["anterior", "posterior"]


def box(start: tuple[int, ...], size: tuple[int, ...], shape: tuple[int, ...] = (16, 18, 20)) -> Tensor:
    volume = torch.zeros(shape, dtype=torch.int64)
    volume[tuple(slice(low, low + side) for low, side in zip(start, size, strict=True))] = 1
    return volume


def two_class_maps(seed: int, shape: tuple[int, int, int] = (12, 10, 9)) -> tuple[Tensor, Tensor]:
    """A rough ellipsoid in two classes and a corrupted, shifted copy; both touch the border for some seeds."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.tensor(shape) * (0.2 + 0.6 * torch.rand(3, generator=generator))
    axes = torch.meshgrid(*(torch.arange(side) for side in shape), indexing="ij")
    distance = sum((axis - middle) ** 2 for axis, middle in zip(axes, centre, strict=True))
    label = (distance < 14).long() * (1 + (axes[1] > centre[1]).long())
    flips = torch.rand(shape, generator=generator) < 0.06
    return torch.where(flips, (label + 1) % 3, label.roll(1, 0)), label


def boundary(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels of the mask with a face neighbour outside it; what lies beyond the volume is outside."""
    found = []
    for voxel in np.argwhere(mask):
        for axis, step in itertools.product(range(3), (-1, 1)):
            neighbour = voxel.copy()
            neighbour[axis] += step
            inside = 0 <= neighbour[axis] < mask.shape[axis]
            if not inside or not mask[tuple(neighbour)]:
                found.append(tuple(int(index) for index in voxel))
                break
    return found


def slow_scores(predicted: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> dict:
    """Set arithmetic for Dice, every pair of boundary voxels for the distances."""
    voxels_p, voxels_r = ({tuple(voxel) for voxel in np.argwhere(mask)} for mask in (predicted, reference))
    edges_p, edges_r = (np.array(boundary(mask)) * spacing for mask in (predicted, reference))
    pairs = np.sqrt(((edges_p[:, None] - edges_r[None]) ** 2).sum(-1))
    forth, back = pairs.min(axis=1), pairs.min(axis=0)
    return {
        "dice": 2 * len(voxels_p & voxels_r) / (len(voxels_p) + len(voxels_r)),
        "surface_dice": ((forth <= tolerance).sum() + (back <= tolerance).sum()) / (len(forth) + len(back)),
        "hausdorff_95": max(np.percentile(forth, 95), np.percentile(back, 95)),
    }


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.5)])
def test_equals_the_slow_derivation(seed: int, spacing: tuple[float, ...]) -> None:
    prediction, label = two_class_maps(seed)
    scores = segmentation_scores(prediction, label, spacing=spacing, class_names=NAMES, tolerance_mm=1.45)
    for index, name in enumerate(NAMES):
        expected = slow_scores((prediction == index + 1).numpy(), (label == index + 1).numpy(), spacing, 1.45)
        assert scores[name] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_equals_monai_on_the_uncropped_volume(seed: int) -> None:
    spacing = (0.7, 1.3, 2.5)
    prediction, label = (torch.nn.functional.pad(part, (5, 9, 0, 7, 3, 0)) for part in two_class_maps(seed))
    scores = segmentation_scores(prediction, label, spacing=spacing, class_names=NAMES, tolerance_mm=1.3)
    hot, hot_label = (one_hot(part[None, None], 3) for part in (prediction, label))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI passes its own deprecated argument
        surface_dice = compute_surface_dice(hot, hot_label, class_thresholds=[1.3, 1.3], spacing=spacing)[0]
        hausdorff = compute_hausdorff_distance(hot, hot_label, percentile=95, spacing=spacing)[0]
    assert [scores[name]["surface_dice"] for name in NAMES] == pytest.approx(surface_dice.tolist(), rel=1e-6)
    assert [scores[name]["hausdorff_95"] for name in NAMES] == pytest.approx(hausdorff.tolist(), rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_distances_agree_with_a_dense_distance_transform(seed: int) -> None:
    spacing = (2.0, 0.5, 1.25)
    prediction, label = two_class_maps(seed)
    edges = []
    for part in (prediction, label):
        edge = np.zeros(part.shape, dtype=bool)
        edge[tuple(np.array(boundary((part == 1).numpy())).T)] = True
        edges.append(edge)
    forth = distance_transform_edt(~edges[1], sampling=spacing)[edges[0]]
    back = distance_transform_edt(~edges[0], sampling=spacing)[edges[1]]
    scores = segmentation_scores(prediction, label, spacing=spacing, class_names=NAMES)
    assert scores["anterior"]["hausdorff_95"] == pytest.approx(
        max(np.percentile(forth, 95), np.percentile(back, 95)), rel=1e-6
    )


@pytest.mark.parametrize("start", [(0, 0, 0), (5, 6, 7), (9, 13, 15)], ids=["border", "inside", "far border"])
@pytest.mark.parametrize("axis", range(3))
def test_two_cubes_shifted_by_two_voxels(start: tuple[int, int, int], axis: int) -> None:
    label = box(start, (5, 5, 5))
    shift = 2 if start[axis] < 9 else -2
    moved = tuple(begin + shift * (index == axis) for index, begin in enumerate(start))
    spacing = tuple(1.5 if index == axis else 4.0 for index in range(3))
    scores = segmentation_scores(box(moved, (5, 5, 5)), label, spacing=spacing, class_names=["cube"])["cube"]
    assert scores["dice"] == pytest.approx(0.6)  # 3 of 5 layers overlap
    assert scores["hausdorff_95"] == pytest.approx(3.0)  # the outer face, 25 of 98 boundary voxels, lies 2 x 1.5 mm off


def test_a_perfect_prediction() -> None:
    label = two_class_maps(0)[1]
    scores = segmentation_scores(label, label, spacing=(1, 2, 3), class_names=NAMES, tolerance_mm=0)
    assert all(values == {"dice": 1.0, "surface_dice": 1.0, "hausdorff_95": 0.0} for values in scores.values())


def test_the_tolerance_is_in_millimetres() -> None:
    label, prediction = box((4, 4, 4), (6, 6, 1)), box((4, 4, 5), (6, 6, 1))

    def surface_dice(step: float, tolerance_mm: float) -> float | None:
        return segmentation_scores(
            prediction, label, spacing=(1.0, 1.0, step), class_names=["sheet"], tolerance_mm=tolerance_mm
        )["sheet"]["surface_dice"]

    assert surface_dice(1.5, 1.5) == 1.0
    assert surface_dice(1.5, 1.4) == 0.0
    assert surface_dice(1.00000012, 1.0) == 1.0  # a float32 affine that means 1 mm


def test_volume_filled_by_the_class() -> None:
    full = torch.ones(6, 6, 6)
    scores = segmentation_scores(full, full, spacing=(1, 1, 1), class_names=["all"])["all"]
    assert scores == {"dice": 1.0, "surface_dice": 1.0, "hausdorff_95": 0.0}


def test_classes_that_one_or_both_maps_lack() -> None:
    empty, cube = torch.zeros(16, 18, 20), box((2, 2, 2), (4, 4, 4))
    missing = {"dice": 0.0, "surface_dice": 0.0, "hausdorff_95": None}
    absent = dict.fromkeys(missing)
    for prediction, label in [(empty, cube), (cube, empty)]:
        scores = segmentation_scores(prediction, label, spacing=(1, 1, 1), class_names=NAMES)
        assert scores == {"anterior": missing, "posterior": absent}
    scores = segmentation_scores(empty, empty, spacing=(1, 1, 1), class_names=NAMES)
    assert scores == {"anterior": absent, "posterior": absent}


def test_inputs_keep_their_values_and_any_type_will_do() -> None:
    prediction, label = two_class_maps(1)
    expected = segmentation_scores(prediction, label, spacing=(1, 1, 1), class_names=NAMES)
    before = prediction.clone(), label.clone()
    for kind in (torch.uint8, torch.int16, torch.float32):
        inputs = MetaTensor(prediction.to(kind)), MetaTensor(label.to(kind))
        assert segmentation_scores(*inputs, spacing=(1, 1, 1), class_names=NAMES) == expected
    assert torch.equal(prediction, before[0])
    assert torch.equal(label, before[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": torch.zeros(2, 2, 3)}, "`prediction` and `label` must have one shape"),
        ({"spacing": (1, 1)}, "with one `spacing` per axis.* and 2 spacings"),
        ({"spacing": (1, 0, 1)}, r"`spacing` must be positive millimetres, got \(1, 0, 1\)"),
        ({"spacing": (1, float("nan"), 1)}, "`spacing` must be positive millimetres"),
        ({"tolerance_mm": -1.0}, "`tolerance_mm` must be a finite length >= 0, got -1.0"),
        ({"prediction": torch.full((2, 2, 2), 3)}, r"`prediction` must hold whole numbers from 0 to 2 .*, got 3.0"),
        ({"label": torch.full((2, 2, 2), -1)}, "`label` must hold whole numbers from 0 to 2 .*, got -1.0"),
        ({"label": torch.full((2, 2, 2), 0.5)}, "`label` must hold whole numbers .*, got 0.5"),
        ({"label": torch.full((2, 2, 2), float("nan"))}, "`label` must hold whole numbers .*, got nan"),
    ],
)
def test_messages(change: dict, message: str) -> None:
    arguments = {"prediction": torch.zeros(2, 2, 2), "label": torch.zeros(2, 2, 2), "spacing": (1, 1, 1)}
    with pytest.raises(UserError, match=message):
        segmentation_scores(**{**arguments, **change}, class_names=NAMES)


def row(dice: float | None, hausdorff: float | None) -> dict[str, float | None]:
    return {"dice": dice, "surface_dice": dice, "hausdorff_95": hausdorff}


def test_summary_is_the_mean_over_cases_of_the_mean_over_classes() -> None:
    cases = [
        case_record("/secret/folder/a.nii.gz", {"anterior": row(0.8, 2.0), "posterior": row(0.6, 4.0)}),
        case_record("b.nii.gz", {"anterior": row(0.0, None), "posterior": row(None, None)}),
        case_record("c.nii.gz", {"anterior": row(None, None), "posterior": row(None, None)}),
    ]
    assert cases[0]["mean"] == pytest.approx({"dice": 0.7, "surface_dice": 0.7, "hausdorff_95": 3.0})
    assert cases[2]["mean"] == row(None, None)
    summary = summarise(
        cases, part="test", weights="/run/model.pt", list_name="/d/list.json", class_names=NAMES, tolerance_mm=1
    )
    assert summary["mean"] == pytest.approx({"dice": 0.35, "surface_dice": 0.35, "hausdorff_95": 3.0})
    assert summary["counts"] == {"cases": 3, "scored": 2, "hausdorff_undefined": 1}
    assert summary["classes"]["anterior"]["dice"] == pytest.approx(0.4)
    assert summary["classes"]["anterior"]["hausdorff_95"] == 2.0
    assert summary["classes"]["anterior"]["counts"] == {"cases": 3, "scored": 2, "hausdorff_undefined": 1}
    assert summary["classes"]["posterior"]["counts"] == {"cases": 3, "scored": 1, "hausdorff_undefined": 0}
    assert (summary["part"], summary["weights"], summary["list"]) == ("test", "model.pt", "list.json")
    assert [case["image"] for case in summary["cases"]] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    assert "/" not in json.dumps(summary, allow_nan=False)


def test_summary_needs_a_case() -> None:
    with pytest.raises(UserError, match="`cases` must hold at least one scored case of part 'test', got none"):
        summarise([], part="test", weights="w", list_name="l", class_names=NAMES, tolerance_mm=1.0)
