from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai.data import MetaTensor

from monai_ssl.transforms.bias_correction import N4BiasCorrection, N4BiasCorrectiond, bias_field, corrects_bias
from monai_ssl.utils.errors import UserError
from tests.helpers import check_input_unchanged, check_kept, same


def biased(shape: tuple[int, ...] = (32, 40, 36), strength: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two tissues in air under a smooth field: the volume, the field, and where the first tissue is alone."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, length) for length in shape], indexing="ij"))
    body, core = (grid**2).sum(0) < 0.8, ((grid - 0.2) ** 2).sum(0)
    field = np.exp(strength * (0.5 * grid[-1] - 0.3 * grid[1] ** 2 + 0.2 * grid[0] * grid[-1]))
    noise = np.random.default_rng(0).normal(4, 1, shape)
    volume = (100 * (body + 0.7 * (core < 0.15)) * field + noise).clip(0).astype(np.float32)
    return volume, field, ((grid**2).sum(0) < 0.6) & (core > 0.2)


def variation(values: np.ndarray) -> float:
    return float(values.std() / values.mean())


@pytest.mark.parametrize("shape", [(32, 40, 36), (48, 48, 6), (64, 64)])
@pytest.mark.parametrize("shrink_factor", [1, 4])
def test_tissue_is_of_one_brightness_again(shape: tuple[int, ...], shrink_factor: int) -> None:
    volume, field, tissue = biased(shape)
    found = bias_field(volume, shrink_factor)
    assert found.shape == shape
    assert found.dtype == np.float32
    assert variation(volume[tissue]) > 0.15
    assert variation((volume / found)[tissue]) < 0.25 * variation(volume[tissue])
    # the field itself, up to a factor
    assert np.corrcoef(np.log(found[tissue]), np.log(field[tissue]))[0, 1] > 0.97


def test_a_volume_without_a_field_hardly_changes() -> None:
    volume, _, tissue = biased(strength=0.0)
    corrected = N4BiasCorrection()(torch.from_numpy(volume)[None])[0].numpy()
    assert variation(corrected[tissue]) < variation(volume[tissue]) + 0.02


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
def test_a_volume_without_tissue_stays_as_it_is(value: float) -> None:
    volume = np.full((9, 8, 7), value, np.float32)
    assert (bias_field(volume) == 1).all()
    assert (bias_field(-biased()[0]) == 1).all()
    volume[0, 0, 0] = 9  # a speck that is left out where every fourth voxel is looked at
    assert np.isfinite(bias_field(volume)).all()


def test_every_channel_has_a_field_of_its_own() -> None:
    first, second = biased()[0], biased(strength=-0.7)[0]
    both = N4BiasCorrection()(torch.from_numpy(np.stack([first, second])))
    for channel, volume in zip(both, (first, second), strict=True):
        assert np.allclose(channel, volume / bias_field(volume), rtol=1e-6)


def test_voxels_that_are_not_finite_spoil_no_others() -> None:
    volume = biased()[0]
    volume[5, 5, 5], volume[8, 8, 8] = np.nan, np.inf
    corrected = N4BiasCorrection()(torch.from_numpy(volume)[None])
    assert int((~torch.isfinite(corrected)).sum()) == 2


def test_the_number_of_threads_changes_no_bit_and_stays_as_it_was() -> None:
    volume, before = biased()[0], sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    found = []
    try:
        for threads in (1, 3):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            found.append(bias_field(volume))
            assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    assert np.array_equal(*found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int16, torch.uint8])
def test_type_and_metadata_are_kept_and_the_input_stays(dtype: torch.dtype) -> None:
    image = MetaTensor(
        torch.from_numpy(biased()[0] / 2)[None].to(dtype), affine=torch.diag(torch.tensor([2.0, 1, 3, 1]))
    )
    check_kept(N4BiasCorrection(), image, calls=1)
    check_input_unchanged(N4BiasCorrectiond("image"), {"image": image, "label": 3}, calls=1)
    assert not torch.equal(N4BiasCorrection()(image), image)


def test_array_and_dictionary_agree() -> None:
    image = torch.from_numpy(biased()[0])[None]
    case: dict[str, Any] = {"image": image, "other": image / 2, "label": "as it is"}
    out = N4BiasCorrectiond(["image", "other", "gone"], shrink_factor=3, allow_missing_keys=True)(case)
    assert same(out, {**case, "image": N4BiasCorrection(3)(image), "other": N4BiasCorrection(3)(image / 2)})
    with pytest.raises(KeyError, match="gone"):
        N4BiasCorrectiond("gone")(case)


def test_a_shrink_factor_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="`shrink_factor` must be 1 or more, got 0"):
        N4BiasCorrection(0)


def test_the_setting_is_for_mri() -> None:
    assert corrects_bias("true", "MRI")
    assert not corrects_bias(False, "MRI")
    assert not corrects_bias("false", "CT")
    with pytest.raises(UserError, match="bias_correction is for MRI: a CT has no coils"):
        corrects_bias(True, "CT")
    with pytest.raises(UserError, match="must be true or false, got 'perhaps'"):
        corrects_bias("perhaps", "MRI")
