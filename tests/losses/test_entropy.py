from __future__ import annotations

import math

import pytest
import torch

from monai_ssl.losses.entropy import predictive_entropy


@pytest.mark.parametrize("shape", [(2, 3, 4, 3, 2), (1, 2, 5, 4), (3, 4)])
def test_equals_the_equation(shape: tuple[int, ...]) -> None:
    p = torch.softmax(3 * torch.randn(shape), dim=1)
    entropy = predictive_entropy(p)
    assert entropy.shape == (shape[0], 1, *shape[2:])
    voxels = p.movedim(1, -1).reshape(-1, shape[1]).tolist()
    expected = [-sum(c * math.log(c) for c in voxel) for voxel in voxels]
    assert entropy.reshape(-1).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("C", [2, 5])
def test_limits(C: int) -> None:
    uniform = torch.full((1, C, 2, 2, 2), 1 / C)
    assert predictive_entropy(uniform).flatten().tolist() == pytest.approx([math.log(C)] * 8)
    certain = torch.zeros(1, C, 2, 2, 2)
    certain[:, 0] = 1
    assert predictive_entropy(certain).tolist() == torch.zeros(1, 1, 2, 2, 2).tolist()


def test_does_not_depend_on_the_order_of_classes_and_leaves_its_input() -> None:
    p = torch.softmax(torch.randn(2, 4, 3, 3), dim=1)
    before = p.clone()
    assert torch.allclose(predictive_entropy(p[:, [2, 0, 3, 1]]), predictive_entropy(p))
    assert torch.equal(p, before)


def test_mixing_never_lowers_it() -> None:
    p, q = (torch.softmax(4 * torch.randn(2, 3, 4, 4, 4), dim=1) for _ in range(2))
    assert (predictive_entropy((p + q) / 2) + 1e-6 >= (predictive_entropy(p) + predictive_entropy(q)) / 2).all()


def test_stays_in_float32_under_autocast() -> None:
    p = torch.softmax(torch.randn(1, 2, 3, 3), dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert predictive_entropy(p.bfloat16()).dtype == torch.float32


def test_no_class_axis_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`probabilities` must have a class axis 1, got shape \(3,\)\."):
        predictive_entropy(torch.rand(3))
