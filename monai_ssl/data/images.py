"""Scans without labels: those to learn from, and those to predict with the place of each prediction."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_ssl.data.cases import load_images
from monai_ssl.data.exclude import leave_out
from monai_ssl.data.formats import ending_of, scans_of, stem_of
from monai_ssl.data.leaks import check_leaks
from monai_ssl.utils.errors import UserError

__all__ = ["images_to_learn_from", "images_to_predict", "prediction_path"]

_FORMATS = "NIfTI, NRRD, MetaImage or DICOM"


def images_to_learn_from(
    datalist: str | os.PathLike[str] | None,
    dataset_dir: str | os.PathLike[str] | None,
    channels: int = 1,
    exclude: Any = (),
) -> list[dict[str, str]]:
    """The cases ``{"image": path}`` of a pretraining: a list's training and unlabelled scans, or a folder of scans.

    Scans of ``validation`` and ``test`` are never among them, and labels are not even looked for.

    Args:
        datalist: as in :func:`~monai_ssl.data.datalist.find_datalist`.
        dataset_dir: folder that the list's paths are relative to; without a list, a folder with ``dataset.json``, or
            else of scans, see :func:`~monai_ssl.data.formats.scans_of`.
        channels: of a case, whose further files in a folder of scans are none of their own.
        exclude: names of scans to leave out, see :func:`~monai_ssl.data.exclude.leave_out`.

    Raises:
        UserError: when there is no scan, files are missing, or the list has a scan or a patient on two sides.
    """
    if datalist is None and dataset_dir is not None and not (Path(dataset_dir) / "dataset.json").is_file():
        found = [{"image": str(file.resolve())} for file in _scans_of(Path(dataset_dir), "dataset_dir", channels)]
        return leave_out(found, exclude, [scan["image"] for scan in found], dataset_dir)
    check_leaks(datalist, dataset_dir, exclude)
    return load_images(datalist, dataset_dir, ("training", "unlabeled"), exclude)


def images_to_predict(
    image: str | os.PathLike[str] | None,
    output_dir: str | os.PathLike[str],
    postfix: str = "seg",
    overwrite: bool = False,
    endings: Sequence[str] = (".nii.gz",),
    channels: int = 1,
) -> list[dict[str, str]]:
    """The cases ``{"image": path}`` of an inference run, in the order of their names.

    Args:
        image: a file in any format of :class:`~monai_ssl.data.readers.ScanReader`, the folder of a DICOM series, or a
            folder of scans, see :func:`~monai_ssl.data.formats.scans_of`.
        output_dir: where the predictions will be written, see :func:`prediction_path`.
        postfix: what is added to a prediction's name.
        overwrite: whether predictions that are there already may be replaced.
        endings: of the names of a prediction's files.
        channels: of a case, which is named by its first file, ``<case>_0000``.

    Raises:
        UserError: when there is no scan, two of one stem, a prediction that is there already, or the predictions
            would lie among the scans.
    """
    if image is None:
        raise UserError(f"image: give --image FILE.nii.gz or --image FOLDER ({_FORMATS}).")
    path = Path(image)
    if path.is_dir() and path.resolve() == Path(output_dir).resolve():
        raise UserError(f"{path}: predictions would lie among the scans. Choose another --output_dir.")
    if path.is_dir():
        files = _scans_of(path, "image", channels)
    elif path.is_file() and ending_of(path):
        files = [path]
    else:
        raise UserError(
            f"{path}: is neither a scan (.nii, .nii.gz, .nrrd, .mha, .mhd, .dcm) nor a folder. Give --image FILE or "
            "FOLDER."
        )
    outputs: dict[Path, Path] = {}
    for file in files:
        for output in (prediction_path(file, output_dir, postfix, ending, channels) for ending in endings):
            if output in outputs:
                raise UserError(f"{file}: its prediction would overwrite that of {outputs[output].name}. Rename one.")
            if output.exists() and not overwrite:
                raise UserError(f"{output}: is there already. Give --overwrite true or another --output_dir.")
            outputs[output] = file
    return [{"image": str(file.resolve())} for file in files]


def prediction_path(
    image: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    postfix: str,
    ending: str = ".nii.gz",
    channels: int = 1,
) -> Path:
    """Where the prediction of a scan is written: ``output_dir/<stem of the scan>_<postfix><ending>``.

    Args:
        image: the scan's file, or the folder of a DICOM series.
        output_dir: folder of the predictions.
        postfix: what is added to the scan's stem.
        ending: of the file's name.
        channels: of a case, see :func:`~monai_ssl.data.formats.stem_of`.
    """
    return Path(output_dir) / f"{stem_of(image, channels)}_{postfix}{ending}"


def _scans_of(folder: Path, setting: str, channels: int) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: `{setting}` must be an existing folder, and there is none of this name.")
    if not (found := scans_of(folder, channels)):
        what = "neither dataset.json nor a" if setting == "dataset_dir" else "no"
        raise UserError(f"{folder}: holds {what} scan ({_FORMATS}). Give another --{setting} FOLDER.")
    return found
