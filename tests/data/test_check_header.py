from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.data.check_header import HEADER_BYTES, read_layout
from monai_ssl.data.check_stream import BrokenFileError

AFFINE = np.array([[0, 2.0, 0, 5], [-1.5, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_layout_is_that_of_nibabel(kind: type, endianness: str, dtype: str) -> None:
    header = kind.header_class(endianness=endianness)
    header.set_data_dtype(dtype)
    content = kind(np.ones((6, 5, 4, 1)).astype(dtype), AFFINE, header).to_bytes()
    layout = read_layout(content[:HEADER_BYTES])
    assert (layout.shape, layout.slope, layout.inter) == ((6, 5, 4), 1, 0)
    assert layout.dtype == np.dtype(dtype).newbyteorder(endianness)
    assert layout.end == len(content)
    np.testing.assert_allclose(layout.affine, AFFINE)


def header(**fields: float) -> bytes:
    made = nib.Nifti1Image(np.zeros((6, 5, 4), np.int16), AFFINE).header.copy()
    made["magic"], made["vox_offset"] = b"n+1", 352
    for name, value in fields.items():
        made[name] = value
    return made.binaryblock + bytes(4)


@pytest.mark.parametrize(
    ("slope", "inter", "used"),
    [(2, 3, (2, 3)), (0, 3, (1, 0)), (np.nan, np.nan, (1, 0)), (np.nan, 5, (1, 0)), (-1, 0, (-1, 0))],
)
def test_scaling(slope: float, inter: float, used: tuple[float, float]) -> None:
    layout = read_layout(header(scl_slope=slope, scl_inter=inter))
    assert (layout.slope, layout.inter) == used


def test_axes_of_length_one_after_the_third_do_not_count() -> None:
    assert read_layout(header(dim=[6, 3, 1, 1, 1, 1, 1, 1])).shape == (3, 1, 1)
    assert read_layout(header(dim=[5, 3, 4, 5, 1, 2, 1, 1])).shape == (3, 4, 5, 1, 2)
    assert read_layout(header(dim=[2, 3, 4, 5, 6, 1, 1, 1])).shape == (3, 4)


def test_a_quaternion_that_is_no_rotation_leaves_no_affine() -> None:
    layout = read_layout(header(sform_code=0, qform_code=1, quatern_b=1, quatern_c=1, quatern_d=1))
    assert np.isnan(layout.affine).all()


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", "not_an_image", "is not a NIfTI image"),
        (header()[:300], "short", "cut off within its header, at byte 300 of 348"),
        (header(magic=b"ni1"), "not_an_image", "header of a .hdr and .img pair"),
        (header(magic=b"abc"), "not_an_image", r"its mark is b'abc'"),
        (header(datatype=99), "header", "without a known type of voxels"),
        (header(datatype=128), "voxel_type", "has colours as voxels"),
        (header(datatype=32), "voxel_type", "has complex64 as voxels"),
        (header(vox_offset=347), "header", "places its voxels at byte 347"),
        (header(vox_offset=400.5), "header", "byte 400.5"),
        (header(scl_slope=np.inf), "header", "scales its voxels by inf"),
        (header(dim=[3, 6, -5, 4, 1, 1, 1, 1]), "header", r"impossible dimensions \(3 6 -5 4"),
        (header(dim=[-3, 6, 5, 4, 1, 1, 1, 1]), "header", "impossible dimensions"),
    ],
)
def test_faults(content: bytes, kind: str, words: str) -> None:
    with pytest.raises(BrokenFileError, match=words) as caught:
        read_layout(content)
    assert caught.value.problem.kind == kind
