from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, Spacingd

from monai_ssl.transforms.text_entries import PutTextBackd, SetTextAsided
from tests.helpers import check_input_unchanged, same


@pytest.fixture
def request_of_a_host(tmp_path):
    """What MONAI Label hands to the first transform: the file, the same once more as text, and the request's own."""
    path = tmp_path / "study.nii.gz"
    nib.save(nib.Nifti1Image(np.arange(64, dtype=np.float32).reshape(4, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return {"image": str(path), "image_path": str(path), "model": "semi_segmentation", "device": "cpu"}


def steps(*around):
    """As a bundle prepares a scan, with MONAI Label's change to the loader."""
    loader = LoadImaged("image", reader="NibabelReader", ensure_channel_first=True)
    loader._loader.image_only = False
    spacing = Spacingd("image", pixdim=(1.0, 1.0, 1.0))
    return Compose([loader, spacing] if not around else [loader, around[0], spacing, around[1]])


def test_spacing_fails_on_the_text_beside_an_image(request_of_a_host):
    """The defect itself: where MONAI heals it, both transforms can go."""
    with pytest.raises(RuntimeError) as error:
        steps()(request_of_a_host)
    assert "'str' object has no attribute 'update'" in str(error.value.__cause__)


def test_with_both_transforms_it_passes_and_the_text_is_there_again(request_of_a_host):
    out = steps(SetTextAsided("image"), PutTextBackd("image"))(request_of_a_host)
    assert out["image"].shape == (1, 7, 7, 7)
    assert {key: out[key] for key in ("image_path", "model", "device")} == {
        key: request_of_a_host[key] for key in ("image_path", "model", "device")
    }
    assert not [key for key in out if "aside" in key]
    # Spacingd still does what it meant to do
    assert torch.equal(torch.as_tensor(out["image_meta_dict"]["affine"]), torch.as_tensor(out["image"].affine))


def test_without_a_host_they_change_nothing():
    case = {"image": MetaTensor(torch.rand(1, 3, 3, 3)), "label": "a path", "image_meta_dict": {"x": 1}, 3: "a number"}
    aside = SetTextAsided("image")(case)
    assert same(aside, case)
    assert same(PutTextBackd("image")(aside), case)


def test_only_the_text_of_the_named_images_is_set_aside():
    case = {"image": 0, "image_path": "a", "image_": "b", "images_path": "c", "scan_path": "d", "image_size": 3}
    aside = SetTextAsided("image")(case)
    assert [key for key in case if key not in aside] == ["image_path", "image_"]
    assert PutTextBackd("image")(aside) == case


def test_the_input_stays_as_it_is():
    check_input_unchanged(SetTextAsided("image"), {"image": 0, "image_path": "a"})
    check_input_unchanged(PutTextBackd("image"), {"image": 0, "aside:image_path": "a"})


def test_a_missing_image_is_told_or_passed_over():
    with pytest.raises(KeyError, match="image"):
        SetTextAsided("image")({"image_path": "a"})
    assert SetTextAsided("image", allow_missing_keys=True)({"image_path": "a"}) == {"image_path": "a"}
