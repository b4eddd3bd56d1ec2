from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import affine_transform
from torch import Tensor

from monai_ssl.transforms.affine import (
    RandAffineView,
    RandAffineViewd,
    affine_inside,
    affine_matrix,
    apply_affine,
    undo_affine,
)
from tests.helpers import check_transform, seed

SHAPES = [(8, 12, 6), (14, 9)]
SPACINGS = {2: (2.0, 0.7), 3: (1.0, 0.8, 3.0)}


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = (8, 12, 6)) -> Tensor:
    return torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(0))


def labels(count: int = 3, shape: tuple[int, ...] = (8, 12, 6)) -> Tensor:
    return torch.randint(0, 5, (count, 1, *shape), generator=torch.Generator().manual_seed(1))


def smooth(count: int, shape: tuple[int, ...]) -> Tensor:
    axes = torch.meshgrid(*[torch.linspace(-1, 1, length) for length in shape], indexing="ij")
    return torch.stack([torch.sin((1 + case / 3) * torch.stack(axes)).sum(0) for case in range(count)])[:, None]


def drawn(count: int, dimensions: int, **arguments: Any) -> Tensor:
    transform = seed(RandAffineView(**{"rotation": 0.5, "scaling": (0.7, 1.4), "flips": 0.3, **arguments}))
    return torch.stack([torch.as_tensor(transform.draw((1, *[8] * dimensions))["matrix"]) for _ in range(count)])


def pulled_back(volume: Tensor, matrix: Tensor, spacing: tuple[float, ...], order: int) -> np.ndarray:
    """The result by SciPy, which reads the input at ``A y + offset`` in voxels."""
    steps = np.diag(spacing)
    map_back = np.linalg.inv(steps) @ np.linalg.inv(matrix.numpy()) @ steps
    centre = (np.array(volume.shape) - 1) / 2
    return np.asarray(
        affine_transform(volume.double().numpy(), map_back, centre - map_back @ centre, order=order, mode="nearest")
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_against_scipy(shape: tuple[int, ...]) -> None:
    spacing = SPACINGS[len(shape)]
    images, matrices = volumes(4, 2, shape), drawn(4, len(shape))
    for steps in (spacing, None):
        out = apply_affine(images, matrices, spacing=steps)
        back = undo_affine(images, matrices, spacing=steps)
        for case, channel in product(range(4), range(2)):
            volume, matrix, unit = images[case, channel], matrices[case], steps or (1.0,) * len(shape)
            assert np.allclose(out[case, channel], pulled_back(volume, matrix, unit, 1), atol=1e-4)
            assert np.allclose(back[case, channel], pulled_back(volume, matrix.inverse(), unit, 1), atol=1e-4)
    classes = labels(4, shape)
    out = apply_affine(classes, matrices, "nearest", spacing)
    assert out.dtype == torch.int64
    for case in range(4):
        assert np.array_equal(out[case, 0], pulled_back(classes[case, 0], matrices[case], spacing, 0).round())


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_right_angles_against_turns_of_torch(turns: int) -> None:
    images, classes = volumes(1, 2, (6, 6, 6)), labels(1, (6, 6, 6))
    for axis, plane in enumerate(((1, 2), (0, 2), (0, 1))):
        angles = [0.0, 0.0, 0.0]
        angles[axis] = turns * math.pi / 2
        matrix = torch.as_tensor(affine_matrix(angles, [1.0] * 3, [False] * 3))[None]
        dims = [2 + one for one in plane]
        assert torch.allclose(apply_affine(images, matrix), images.rot90(turns, dims), atol=1e-5)
        assert torch.allclose(undo_affine(images, matrix), images.rot90(-turns, dims), atol=1e-5)
        assert torch.equal(apply_affine(classes, matrix, "nearest"), classes.rot90(turns, dims))
    matrix = torch.as_tensor(affine_matrix([turns * math.pi / 2], [1.0] * 2, [False] * 2))[None]
    assert torch.allclose(apply_affine(images[..., 0], matrix), images[..., 0].rot90(turns, [2, 3]), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_identity_and_flips(shape: tuple[int, ...]) -> None:
    images, classes, dimensions = volumes(1, 2, shape), labels(1, shape), len(shape)
    for flips in product([False, True], repeat=dimensions):
        matrix = torch.as_tensor(affine_matrix([0.0] * (2 * dimensions - 3), [1.0] * dimensions, flips))[None]
        dims = [2 + axis for axis, flip in enumerate(flips) if flip]
        for function in (apply_affine, undo_affine):
            assert torch.allclose(function(images, matrix, spacing=SPACINGS[dimensions]), images.flip(dims), atol=1e-5)
            assert torch.equal(function(classes, matrix, "nearest"), classes.flip(dims))
        assert affine_inside(matrix, shape).all()


def test_a_quarter_turn_of_thick_slices_keeps_millimetres() -> None:
    # 12 voxels of 1 mm beside 4 of 3 mm: the bar of 3 x 1 voxels and the one of 1 x 3 mm are the same thing turned
    images = torch.zeros(1, 1, 12, 4, 1)
    images[0, 0, 3:6] = torch.linspace(1, 2, 4)[:, None]
    matrix = torch.as_tensor(affine_matrix([0.0, 0.0, math.pi / 2], [1.0] * 3, [False] * 3))[None]
    turned = apply_affine(images, matrix, "nearest", (1.0, 3.0, 1.0))
    # what lay at 3 to 6 mm along the first axis lies there along the second, the second voxel; what rose along the
    # second axis falls along the first
    expected = torch.zeros_like(images)
    expected[0, 0, :, 1, 0] = torch.linspace(1, 2, 4).repeat_interleave(3).flip(0)
    assert torch.equal(turned, expected)


def test_matrices_turn_what_they_have_stretched() -> None:
    angles, factors, flips = [0.3, -0.4, 0.5], [0.8, 1.1, 1.3], [True, False, False]
    matrix = affine_matrix(angles, factors, flips)
    assert np.allclose(matrix.T @ matrix, np.diag(np.square(factors)))
    assert np.linalg.det(matrix) == pytest.approx(-0.8 * 1.1 * 1.3)
    cosine, sine = math.cos(0.3), math.sin(0.3)
    first = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    assert np.allclose(affine_matrix([0.3, 0.0, 0.0], [1.0] * 3, [False] * 3), first)
    about = [
        affine_matrix([angle * (axis == k) for k in range(3)], [1.0] * 3, [False] * 3)
        for axis, angle in enumerate(angles)
    ]
    assert np.allclose(matrix, about[0] @ about[1] @ about[2] @ np.diag([-0.8, 1.1, 1.3]))


@pytest.mark.parametrize("shape", [(24, 20, 16), (30, 24)])
def test_undoing_a_smooth_image_gives_it_back_where_it_stayed_inside(shape: tuple[int, ...]) -> None:
    images, spacing = smooth(4, shape), SPACINGS[len(shape)]
    matrices = drawn(4, len(shape), rotation=0.3, scaling=(0.8, 1.25))
    moved = apply_affine(images, matrices, spacing=spacing)
    back = undo_affine(moved, matrices, spacing=spacing)
    outside = ~affine_inside(matrices.inverse(), shape, spacing)
    # at the edge of the volume or the view a voxel is made from repeated ones, too
    pool, around = (F.max_pool3d, (1,) * 6) if len(shape) == 3 else (F.max_pool2d, (1,) * 4)
    inside = pool(F.pad(outside.float(), around, value=1.0), 3, stride=1) == 0
    assert (moved - images).abs().mean() > 0.1
    assert inside.float().mean() > 0.4
    assert (back - images).abs()[inside].max() < 0.04
    assert (back - images).abs()[outside].max() > 0.2


@pytest.mark.parametrize("shape", SHAPES)
def test_inside_voxel_by_voxel(shape: tuple[int, ...]) -> None:
    spacing, matrices = SPACINGS[len(shape)], drawn(2, len(shape))
    inside = affine_inside(matrices, shape, spacing)
    assert inside.shape == (2, 1, *shape)
    extent = np.array(shape) * spacing
    for case in range(2):
        for voxel in product(*map(range, shape)):
            point = (np.array(voxel) + 0.5) * spacing - extent / 2
            source = np.linalg.solve(matrices[case].numpy(), point)
            if np.abs(np.abs(source) - extent / 2).min() > 1e-4:  # not on the edge
                assert inside[case, 0][voxel] == bool((np.abs(source) <= extent / 2).all())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.float32, torch.bool])
def test_labels_get_no_new_values(dtype: torch.dtype) -> None:
    classes = (labels() * 50).to(dtype)
    out = apply_affine(classes, drawn(3, 3), "nearest", SPACINGS[3])
    assert out.dtype == dtype
    assert set(out.unique().tolist()) <= set(classes.unique().tolist())
    assert not torch.equal(out, classes)


def test_probabilities_stay_probabilities() -> None:
    probabilities = volumes(3, 4).softmax(1)
    for function in (apply_affine, undo_affine):
        out = function(probabilities, drawn(3, 3))
        assert torch.allclose(out.sum(1), torch.ones(3, 8, 12, 6))
        assert out.min() >= 0


def test_gradients_pass_back_to_predictions() -> None:
    images = volumes().requires_grad_()
    undo_affine(images, drawn(3, 3)).square().sum().backward()
    assert images.grad is not None
    assert bool(images.grad.flatten(1).any(1).all())


def test_dtypes_are_kept_and_autocast_does_not_lower_the_coordinates() -> None:
    images, matrices = volumes(), drawn(3, 3)
    exact = apply_affine(images.double(), matrices)
    assert exact.dtype == torch.float64
    assert torch.allclose(apply_affine(images, matrices.float()).double(), exact, atol=1e-4)
    for dtype, error in ((torch.float16, 0.01), (torch.bfloat16, 0.05)):
        out = apply_affine(images.to(dtype), matrices)
        assert out.dtype == dtype
        assert torch.allclose(out.double(), exact, atol=error)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(apply_affine(images, matrices).double(), exact, atol=1e-4)


@pytest.mark.parametrize("prob", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_is_its_cases_one_by_one_and_the_matrix_undoes_it(prob: float, shape: tuple[int, ...]) -> None:
    images, spacing = volumes(8, shape=shape), SPACINGS[len(shape)]
    before = images.clone()
    whole, single = (seed(RandAffineView(flips=0.5, spacing=spacing, prob=prob)) for _ in range(2))
    out, matrices = whole.batch(images), whole.extras["matrix"]
    assert (matrices.shape, matrices.dtype) == ((8, len(shape), len(shape)), torch.float32)
    for number, image in enumerate(images):
        assert torch.allclose(out[number], single(image), rtol=0, atol=1e-5)
        assert torch.equal(matrices[number], single.extras["matrix"])
    assert torch.allclose(out, apply_affine(images, matrices, spacing=spacing), atol=1e-4)
    skipped = torch.tensor([torch.equal(one, torch.eye(len(shape))) for one in matrices])
    assert torch.equal(out[skipped], images[skipped])
    assert int(skipped.sum()) in {0.0: [8], 0.5: range(1, 8), 1.0: [0]}[prob]
    assert torch.equal(images, before)


def test_what_is_drawn() -> None:
    count = 2000
    turned = drawn(count, 2, rotation=0.4, scaling=(1.0, 1.0), flips=0.0)
    angles = torch.atan2(turned[:, 1, 0], turned[:, 0, 0])
    assert -0.4 <= angles.min() < -0.39
    assert 0.39 < angles.max() <= 0.4
    assert float(angles.mean()) == pytest.approx(0, abs=5 * 0.8 / math.sqrt(12 * count))
    about_one = drawn(20, 3, rotation=(0.0, 0.0, 0.4), scaling=(1.0, 1.0), flips=0.0)
    assert torch.equal(about_one[:, 2], torch.tensor([[0.0, 0.0, 1.0]] * 20).double())
    scaled = drawn(count, 3, rotation=0.0, scaling=(0.5, 4.0), flips=(0.0, 0.3, 1.0)).diagonal(dim1=1, dim2=2)
    assert torch.allclose(
        (scaled < 0).double().mean(0), torch.tensor([0, 0.3, 1]).double(), atol=5 * math.sqrt(0.21 / count)
    )
    logs = scaled.abs().log2()
    assert -1 <= logs.min() < -0.98
    assert 1.98 < logs.max() <= 2
    assert torch.allclose(logs.mean(0), torch.full((3,), 0.5).double(), atol=5 * 3 / math.sqrt(12 * count))
    assert float(torch.corrcoef(logs.T)[0, 1]) == pytest.approx(0, abs=5 / math.sqrt(count))
    alike = drawn(20, 3, rotation=0.0, isotropic=True).diagonal(dim1=1, dim2=2).abs()
    assert torch.equal(alike, alike[:, :1].expand(20, 3))


@pytest.mark.parametrize("shape", [(8, 6, 5), (14, 9)])
def test_the_batteries_hold(shape: tuple[int, ...]) -> None:
    check_transform(RandAffineView, RandAffineViewd, volumes(1, 2, shape)[0])


def test_the_dictionary_moves_labels_alike_and_tells_how() -> None:
    image, label = volumes(1)[0], labels(1)[0].float()
    arguments: dict[str, Any] = {"rotation": 0.5, "flips": 0.5, "spacing": SPACINGS[3]}
    transform = seed(
        RandAffineViewd(["image", "label"], mode=["bilinear", "nearest"], allow_missing_keys=True, **arguments)
    )
    array = seed(RandAffineView(**arguments))
    for _ in range(3):
        out = transform({"image": image, "label": label})
        assert torch.equal(out["image"], array(image))
        assert torch.equal(out["matrix"], array.extras["matrix"])
        again = apply_affine(label[None], out["matrix"][None].double(), "nearest", SPACINGS[3])[0]
        assert (out["label"] != again).float().mean() < 0.01  # ties alone, the matrix told having 32 bits
        assert set(out["label"].unique().tolist()) <= set(range(5))
        assert torch.equal(transform({"image": image})["image"], array(image))
    batch = transform.batch({"image": image.repeat(2, 1, 1, 1, 1), "label": label.repeat(2, 1, 1, 1, 1)})
    assert batch["matrix"].shape == (2, 3, 3)
    assert set(batch["label"].unique().tolist()) <= set(range(5))
    assert not torch.equal(batch["image"][0], batch["image"][1])
    assert "matrix" not in RandAffineViewd(["image"], None)({"image": image})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rotation": -0.1}, "`rotation` must be 0 radians at least, got -0.1"),
        ({"rotation": (0.1, -0.1, 0.0)}, "`rotation` must be"),
        ({"scaling": (0.0, 1.0)}, r"`scaling` must be two numbers above 0, the least first, got \(0.0, 1.0\)"),
        ({"scaling": (1.2, 1.0)}, "`scaling` must be"),
        ({"scaling": (1.2,)}, "`scaling` must be"),
        ({"flips": 1.5}, r"`flips` must be in \[0, 1\], got 1.5"),
        ({"spacing": [1.0, 0.0]}, r"`spacing` must be above 0 mm, got \[1.0, 0.0\]"),
        ({"mode": "cubic"}, "`mode` must be bilinear or nearest, got 'cubic'"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandAffineView(**arguments)
    with pytest.raises(ValueError, match=message):
        RandAffineViewd(["image"], **arguments)


def test_what_does_not_fit_the_volumes() -> None:
    images = volumes()
    with pytest.raises(ValueError, match=r"`matrices` must be 3 x 3 for each of 3 cases, got \(2, 3, 3\)"):
        apply_affine(images, drawn(2, 3))
    with pytest.raises(ValueError, match="`matrices` must be 3 x 3"):
        undo_affine(images, drawn(3, 2))
    with pytest.raises(ValueError, match=r"`spacing` must be above 0 mm for each of 3 axes, got \(1.0, 2.0\)"):
        apply_affine(images, drawn(3, 3), spacing=(1.0, 2.0))
    with pytest.raises(ValueError, match="`mode` must be bilinear or nearest, got 'cubic'"):
        undo_affine(images, drawn(3, 3), "cubic")  # type: ignore[arg-type]
    for name in ("rotation", "flips", "spacing"):
        arguments: dict[str, Any] = {name: (1.0, 1.0)}
        with pytest.raises(ValueError, match=rf"`{name}` must be one number or 3, got \(1.0, 1.0\)"):
            RandAffineView(**arguments)(images[0])
    with pytest.raises(ValueError, match="`rotation` must be one number, got"):
        RandAffineView((0.1, 0.1))(images[0, ..., 0])
