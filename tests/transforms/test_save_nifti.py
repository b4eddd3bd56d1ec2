import errno
import os

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, SaveImaged

from monai_ssl.data.prediction_layout import PredictionLayout
from monai_ssl.transforms import SaveNiftid
from monai_ssl.utils.errors import UserError, find_user_error

OBLIQUE = np.array([[-0.9, 0.2, 0.0, 12.0], [0.3, 1.1, -0.4, -7.5], [0.1, 0.3, 2.0, 3.25], [0, 0, 0, 1]])


def volume(channels=1, affine=OBLIQUE):
    values = torch.randint(0, 5, (channels, 6, 5, 4), generator=torch.Generator().manual_seed(0)).float()
    return MetaTensor(values, affine=torch.as_tensor(affine), meta={"filename_or_obj": "scans/case.1.nii.gz"})


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("affine", [OBLIQUE, np.eye(4), np.diag([-1.0, -1.0, 3.0, 1.0])])
def test_the_file_is_what_monai_writes(tmp_path, dtype, channels, affine):
    case = {"pred": volume(channels, affine)}
    monais = {"separate_folder": False, "resample": False, "print_log": False}
    SaveImaged("pred", folder_layout=PredictionLayout(tmp_path, "monai"), output_dtype=dtype, **monais)(case)
    SaveNiftid("pred", PredictionLayout(tmp_path, "own"), dtype)(case)
    expected, found = (nib.load(tmp_path / f"case.1_{name}.nii.gz") for name in ("monai", "own"))
    assert found.header == expected.header
    assert np.array_equal(found.dataobj, expected.dataobj)
    assert found.get_data_dtype() == dtype


def test_the_same_volume_is_the_same_file(tmp_path):
    for postfix in ("a", "b"):
        SaveNiftid("pred", PredictionLayout(tmp_path, postfix), np.uint8)({"pred": volume()})
    assert (tmp_path / "case.1_a.nii.gz").read_bytes() == (tmp_path / "case.1_b.nii.gz").read_bytes()


def test_a_full_disk_ends_the_run_and_leaves_the_file_before(tmp_path, monkeypatch):
    save = SaveNiftid("pred", PredictionLayout(tmp_path, "seg"), np.uint8)
    save({"pred": volume()})
    before = (tmp_path / "case.1_seg.nii.gz").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RuntimeError) as caught:
        Compose([save])({"pred": volume() + 1})
    told = find_user_error(caught.value)
    assert isinstance(told, UserError)
    assert "case.1_seg.nii.gz: no space left on the disk" in str(told)
    assert [path.name for path in tmp_path.iterdir()] == ["case.1_seg.nii.gz"]
    assert (tmp_path / "case.1_seg.nii.gz").read_bytes() == before


def test_a_missing_volume(tmp_path):
    layout = PredictionLayout(tmp_path, "seg")
    assert SaveNiftid("pred", layout, allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError):
        SaveNiftid("pred", layout)({"image": 1})
    assert not list(tmp_path.iterdir())
