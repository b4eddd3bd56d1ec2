from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.label.label_check import unfit_values


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "inference.yaml").write_text("class_names: [background, liver, tumour]\n")
    return tmp_path


def write(path, values, kind=np.uint8):
    nib.save(nib.Nifti1Image(np.array(values, kind).reshape(1, 1, -1), np.eye(4)), path)
    return path


def test_labels_that_fit(bundle):
    assert unfit_values(write(bundle / "a.nii.gz", [0, 1, 2]), bundle) == ""
    assert unfit_values(write(bundle / "a.nii", [1.0, 1.0], np.float32), bundle) == ""


@pytest.mark.parametrize(("values", "kind", "shown"), [([0, 3], np.uint8, "3"), ([0, 1.5], np.float32, "1.5")])
def test_strange_values_are_named_with_the_classes(bundle, values, kind, shown):
    line = unfit_values(write(bundle / "a.nii.gz", values, kind), bundle)
    assert line.startswith(f"a.nii.gz: has the value {shown}; there are 0 background, 1 liver, 2 tumour.")


def test_a_broken_file_is_told(bundle):
    whole = write(bundle / "a.nii.gz", range(200))
    whole.write_bytes(whole.read_bytes()[:60])
    assert unfit_values(whole, bundle).startswith("a.nii.gz: the label cannot be read")
    (bundle / "b.nii").write_bytes(b"")
    assert "cannot be read" in unfit_values(bundle / "b.nii", bundle)
