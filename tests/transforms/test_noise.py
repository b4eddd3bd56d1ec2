from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from monai_ssl.transforms.noise import RandAdditiveNoise, RandAdditiveNoised, additive_noise
from tests.helpers import check_transform, seed


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = (8, 6, 5)) -> Tensor:
    return torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(0))


def test_what_is_added_is_normal_and_independent() -> None:
    images, deviations = volumes(2, 2, (16, 16, 16)).double(), torch.tensor([0.1, 2.0])
    noise = additive_noise(images, deviations, torch.tensor([3, 4])) - images
    scaled = noise / deviations.view(2, 1, 1, 1, 1)
    for volume in scaled.flatten(0, 1):
        assert kstest(volume.flatten().numpy(), "norm").pvalue > 1e-3
    rows = torch.cat([scaled.flatten(2).flatten(0, 1), scaled.roll(1, -1).flatten(2).flatten(0, 1)])
    correlation = torch.corrcoef(rows) - torch.eye(8)
    assert correlation.abs().max() < 5 / math.sqrt(16**3)  # between cases, channels and neighbouring voxels


def test_noise_follows_from_its_seed_and_grows_with_its_deviation() -> None:
    images, ones = volumes(), torch.ones(3)
    first, again, other = (
        additive_noise(images, ones, torch.tensor(seeds)) for seeds in ([1, 2, 3], [1, 2, 3], [1, 2, 4])
    )
    assert torch.equal(first, again)
    assert torch.equal(first[:2], other[:2])
    assert not torch.equal(first[2], other[2])
    twice = additive_noise(images, 2 * ones, torch.tensor([1, 2, 3]))
    assert torch.allclose(twice - images, 2 * (first - images), atol=1e-5)
    assert torch.equal(additive_noise(images, 0 * ones, torch.tensor([1, 2, 3])), images)


def test_noise_does_not_depend_on_the_layout_and_hardly_on_the_dtype() -> None:
    images, deviations, seeds = volumes(), torch.tensor([0.1, 0.5, 1.0]), torch.tensor([1, 2, 3])
    out = additive_noise(images, deviations, seeds)
    layout = images.to(memory_format=torch.channels_last_3d)
    assert torch.equal(additive_noise(layout, deviations, seeds), out)
    for dtype, error in ((torch.float16, 0.01), (torch.bfloat16, 0.1)):
        low = additive_noise(images.to(dtype), deviations, seeds)
        assert low.dtype == dtype
        assert torch.allclose(low.float(), out, atol=error)
    assert additive_noise(images.double(), deviations, seeds).dtype == torch.float64


def test_deviations_are_uniform_and_seeds_differ() -> None:
    transform = seed(RandAdditiveNoise((0.1, 0.5)))
    params = [transform.draw((1, 8, 8, 8)) for _ in range(2000)]
    deviations = np.array([one["deviation"] for one in params])
    assert 0.1 <= deviations.min() < 0.105
    assert 0.495 < deviations.max() <= 0.5
    assert deviations.mean() == pytest.approx(0.3, abs=5 * 0.4 / math.sqrt(12 * 2000))
    assert len({one["seed"] for one in params}) > 1990


@pytest.mark.parametrize("shape", [(8, 6, 5), (14, 9)])
def test_a_batch_is_its_cases_one_by_one(shape: tuple[int, ...]) -> None:
    images = volumes(5, shape=shape)
    whole, single = (seed(RandAdditiveNoise(prob=0.7)) for _ in range(2))
    for _ in (0, 1):
        out = whole.batch(images)
        for number, image in enumerate(images):
            assert torch.equal(out[number], single(image))


@pytest.mark.parametrize("shape", [(8, 6, 5), (14, 9)])
def test_the_batteries_hold(shape: tuple[int, ...]) -> None:
    check_transform(RandAdditiveNoise, RandAdditiveNoised, volumes(1, 2, shape)[0])


@pytest.mark.parametrize("deviation", [(-0.1, 1.0), (2.0, 1.0), (1.0,)])
def test_arguments_out_of_range(deviation: Any) -> None:
    with pytest.raises(ValueError, match=r"`deviation` must be two numbers from 0, the least first, got \("):
        RandAdditiveNoise(deviation)
