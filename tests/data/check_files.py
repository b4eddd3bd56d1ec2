"""A clean data set, and every way of the checks' tests to break one of its cases."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SHAPE = (12, 10, 8)
AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])


@dataclass
class Made:
    """One case on the disk."""

    folder: Path
    entry: dict[str, Any]

    def path(self, key: str) -> Path:
        return self.folder / self.entry[key]

    def rename(self, key: str, ending: str) -> Path:
        old = self.path(key)
        self.entry[key] = self.entry[key].removesuffix(".nii.gz") + ending
        old.rename(self.path(key))
        return self.path(key)


def image_voxels(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def label_voxels(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    voxels = np.zeros(shape, np.uint8)
    voxels[2:5, 3:6, 2:5], voxels[6:9, 3:6, 2:5] = 1, 2
    return voxels


def save(path: Path, voxels: np.ndarray, affine: np.ndarray | None = AFFINE, **header: Any) -> None:
    image = nib.Nifti1Image(voxels, affine)
    content = bytearray(image.to_bytes())
    if header:
        changed = nib.Nifti1Header(bytes(content[:348]), check=False)
        for name, value in header.items():
            if isinstance(value, dict):
                for index, number in value.items():
                    changed[name][index] = number
            else:
                changed[name] = value
        content[:348] = changed.binaryblock
    path.write_bytes(gzip.compress(bytes(content), mtime=0) if path.name.endswith(".gz") else bytes(content))


def make_case(folder: Path, name: str, seed: int) -> Made:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    save(folder / "images" / f"{name}.nii.gz", image_voxels(seed))
    save(folder / "labels" / f"{name}.nii.gz", label_voxels())
    return Made(folder, {"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"})


def make_data(folder: Path) -> tuple[dict[str, Any], list[Made]]:
    """Write a clean data set; return its list and the cases of ``training``."""
    made = {f"{part}{n}": make_case(folder, f"{part}{n}", 10 * len(part) + n) for part, n in _clean_cases()}
    data: dict[str, Any] = {"tensorImageSize": "3D", "modality": {"0": "CT"}}
    data["labels"] = {"0": "background", "1": "liver", "2": "tumour"}
    for part, n in _clean_cases():
        data.setdefault(part, []).append(made[f"{part}{n}"].entry)
    (folder / "labels" / "unlabeled0.nii.gz").write_text("never opened")
    return data, [made[f"training{n}"] for n in range(6)]


def write_list(folder: Path, data: dict[str, Any]) -> Path:
    (folder / "dataset.json").write_text(json.dumps(data))
    return folder / "dataset.json"


def _clean_cases() -> list[tuple[str, int]]:
    counts = {"training": 6, "unlabeled": 2, "validation": 2, "test": 2}
    return [(part, n) for part, count in counts.items() for n in range(count)]


# What breaks a file


def flipped(content: bytes, byte: int, bit: int = 0) -> bytes:
    changed = bytearray(content)
    changed[byte] ^= 1 << bit
    return bytes(changed)


def edit(key: str, change: Callable[[bytes], bytes]) -> Callable[[Made], None]:
    return lambda case: (case.path(key).write_bytes(change(case.path(key).read_bytes())), None)[1]


def inside(change: Callable[[bytes], bytes]) -> Callable[[Made], None]:
    """Change what the gzip file of an image holds."""
    return edit("image", lambda content: gzip.compress(change(gzip.decompress(content))))


def image(voxels: Callable[[], np.ndarray] | None = None, **more: Any) -> Callable[[Made], None]:
    return lambda case: save(case.path("image"), voxels() if voxels else image_voxels(99), **more)


def label(voxels: Callable[[], np.ndarray] | None = None, **more: Any) -> Callable[[Made], None]:
    return lambda case: save(case.path("label"), voxels() if voxels else label_voxels(), **more)


def both(*changes: Callable[[Made], None]) -> Callable[[Made], None]:
    return lambda case: [change(case) for change in changes] and None


def with_value(voxels: np.ndarray, value: float, dtype: Any = np.float32) -> Callable[[], np.ndarray]:
    changed = voxels.astype(dtype)
    changed[1, 1, 1] = value
    return lambda: changed


def plain_cut(case: Made) -> None:
    path = case.rename("image", ".nii")
    path.write_bytes(gzip.decompress(path.read_bytes())[:-5])


def bomb(case: Made) -> None:
    zeros = gzip.compress(bytes(1 << 26))
    case.path("image").write_bytes(case.path("image").read_bytes() + 200 * zeros)


def turned(*rows: list[float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = rows
    return affine


def replace(key: str, make: Callable[[Path], Any]) -> Callable[[Made], None]:
    def change(case: Made) -> None:
        case.path(key).unlink()
        make(case.path(key))

    return change


def second(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Write a gzip file as two members, the second one changed."""
    whole = gzip.decompress(content)
    return gzip.compress(whole[:1000]) + change(gzip.compress(whole[1000:]))


NAN = float("nan")
SHEAR = turned([1.0, 0.2, 0], [0, 1.5, 0], [0, 0, 2.0])
FLIP = np.diag([-1.0, 1.5, 2.0, 1.0])
SHIFTED = AFFINE + np.array([[0, 0, 0, 3.0], [0] * 4, [0] * 4, [0] * 4])
QUATERNION = {"sform_code": 0, "qform_code": 1, "quatern_b": 1, "quatern_c": 1, "quatern_d": 1}
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])

BROKEN: dict[str, tuple[str, Callable[[Made], None]]] = {
    "no image": ("missing", lambda case: case.path("image").unlink()),
    "no label": ("missing", lambda case: case.path("label").unlink()),
    "dangling link": ("missing", replace("image", lambda path: path.symlink_to("nowhere.nii.gz"))),
    "link to itself": ("unreadable", replace("image", lambda path: path.symlink_to(path.name))),
    "pipe": ("not_a_file", replace("image", os.mkfifo)),
    "folder without slices": ("series", replace("image", lambda path: path.mkdir())),
    "another format": ("unchecked", lambda case: (case.rename("image", ""), None)[1]),
    "another format's ending": ("not_an_image", lambda case: (case.rename("image", ".nrrd"), None)[1]),
    "empty": ("empty", edit("image", lambda content: b"")),
    "empty label": ("empty", edit("label", lambda content: b"")),
    "text": ("not_an_image", edit("image", lambda content: b"hello, this is no image")),
    "text in gzip": ("not_an_image", edit("image", lambda content: gzip.compress(b"hello" * 200))),
    "picture": ("not_an_image", edit("image", lambda content: b"\x89PNG\r\n\x1a\n" + content)),
    "gzip of nothing": ("not_an_image", edit("image", lambda content: gzip.compress(b""))),
    "not compressed": ("not_an_image", edit("image", gzip.decompress)),
    "compressed without .gz": ("not_an_image", lambda case: (case.rename("image", ".nii"), None)[1]),
    "pair's header": ("not_an_image", image(magic=b"ni1")),
    "no mark": ("not_an_image", image(magic=b"xyz")),
    "size of header": ("not_an_image", image(sizeof_hdr=349)),
    "half": ("truncated", edit("image", lambda content: content[: len(content) // 2])),
    "a byte less": ("truncated", edit("image", lambda content: content[:-1])),
    "cut in gzip's header": ("truncated", edit("image", lambda content: content[:5])),
    "cut label": ("truncated", edit("label", lambda content: content[:-20])),
    "second member cut": ("truncated", edit("image", lambda content: second(content, lambda end: end[:-100]))),
    "a bit": ("corrupt", edit("image", lambda content: flipped(content, 1000))),
    "a bit of the label": ("corrupt", edit("label", lambda content: flipped(content, 60))),
    "checksum": ("corrupt", edit("image", lambda content: flipped(content, len(content) - 6))),
    "length": ("corrupt", edit("image", lambda content: flipped(content, len(content) - 2))),
    "zeros inside": ("corrupt", edit("image", lambda content: content[:900] + bytes(200) + content[1100:])),
    "second member": ("corrupt", edit("image", lambda content: second(content, lambda end: flipped(end, 500)))),
    "garbage behind": ("trailing", edit("image", lambda content: content + b"garbage")),
    "cut without gzip": ("short", plain_cut),
    "fewer voxels": ("short", inside(lambda content: content[:-1])),
    "only a header": ("short", inside(lambda content: content[:352])),
    "part of a header": ("short", inside(lambda content: content[:200])),
    "1024 cubed": ("short", image(dim={1: 1024, 2: 1024, 3: 1024})),
    "voxels beyond the end": ("short", image(vox_offset=1e9)),
    "30000 cubed": ("too_large", image(dim={1: 30000, 2: 30000, 3: 30000})),
    "more voxels": ("surplus", image(dim={3: 4})),
    "bomb": ("surplus", bomb),
    "no voxel offset": ("header", image(vox_offset=NAN)),
    "voxels in the header": ("header", image(vox_offset=10)),
    "unknown type": ("header", image(datatype=9999)),
    "no dimensions": ("header", image(dim={0: 0})),
    "nine dimensions": ("header", image(dim={0: 9})),
    "negative length": ("header", image(dim={2: -10})),
    "no length": ("header", image(dim={2: 0})),
    "infinite scaling": ("header", image(scl_slope=float("inf"), scl_inter=0)),
    "infinite offset": ("header", image(scl_slope=1, scl_inter=-np.inf)),
    "colours": ("voxel_type", image(lambda: np.zeros(SHAPE, RGB))),
    "complex numbers": ("voxel_type", image(lambda: image_voxels(1).astype(np.complex64))),
    "NaN": ("non_finite", image(with_value(image_voxels(98), NAN))),
    "infinite": ("non_finite", image(with_value(image_voxels(98), -np.inf))),
    "NaN everywhere": ("non_finite", image(lambda: np.full(SHAPE, NAN, np.float32))),
    "NaN in the label": ("non_finite", label(with_value(label_voxels(), NAN))),
    "NaN in the affine": ("affine", image(srow_x={0: NAN})),
    "infinite affine": ("affine", image(srow_y={3: np.inf})),
    "no extent": ("affine", image(srow_z={2: 0})),
    "parallel axes": ("affine", image(affine=turned([1.0, 1, 0], [0, 1e-9, 0], [0, 0, 1]))),
    "no rotation": ("affine", image(**QUATERNION)),
    "zero spacing": ("affine", image(sform_code=0, qform_code=0, pixdim={1: 0})),
    "affine of the label": ("affine", label(srow_x={0: NAN})),
    "sheared": ("sheared", both(image(affine=SHEAR), label(affine=SHEAR))),
    "2D": ("dimensions", image(lambda: image_voxels(97, (12, 10)))),
    "one slice": (
        "dimensions",
        both(image(lambda: image_voxels(97)[..., :1]), label(lambda: label_voxels()[..., 2:3])),
    ),
    "4D": ("dimensions", image(lambda: image_voxels(97, (*SHAPE, 3)))),
    "5D": ("dimensions", image(lambda: image_voxels(97, (*SHAPE, 1, 3)))),
    "4D label": ("dimensions", label(lambda: np.stack([label_voxels()] * 2, -1))),
    "another shape": ("shape", label(lambda: label_voxels()[:, :, :-1])),
    "another spacing": ("spacing", label(affine=np.diag([1.0, 1.5, 2.5, 1.0]))),
    "flipped": ("orientation", label(affine=FLIP)),
    "turned": ("orientation", label(affine=turned([0.8, -0.9, 0], [0.6, 1.2, 0], [0, 0, 2.0]))),
    "shifted": ("shift", label(affine=SHIFTED)),
    "undeclared class": ("label_values", label(with_value(label_voxels(), 7, np.uint8))),
    "negative class": ("label_values", label(with_value(label_voxels(), -1, np.int16))),
    "image as label": ("label_fractions", label(lambda: image_voxels(96) / 100)),
    "half a class": ("label_fractions", label(with_value(label_voxels(), 0.5))),
    "blank": ("constant", image(lambda: np.full(SHAPE, 3, np.int16))),
    "nothing labelled": ("empty_label", label(lambda: np.zeros(SHAPE, np.uint8))),
}
"""Name: the kind of fault, and what makes it of a clean case."""
