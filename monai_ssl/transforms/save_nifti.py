"""MONAI's ``SaveImaged`` for NIfTI, whose files are written whole or not at all."""

from __future__ import annotations

import gzip
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import FolderLayoutBase, MetaTensor, NibabelWriter
from monai.data.folder_layout import default_name_formatter
from monai.transforms import SaveImaged

from monai_ssl.utils.files import atomic_write

__all__ = ["SaveNiftiD", "SaveNiftiDict", "SaveNiftid"]


class SaveNiftid(SaveImaged):
    """Save volumes as ``.nii.gz`` on their own grid, in the bytes of MONAI's ``NibabelWriter``.

    MONAI's transform goes on to ITK's writer where Nibabel's fails, and that one leaves an empty file on a full disk
    and tells nobody. Here a file is complete or not there, the one before it stays until then, and the failure ends
    the run. MONAI Label leaves out what is a ``SaveImaged``, and so this.

    Args:
        keys: of the volumes, ``(C, H, W, D)`` with their metadata.
        folder_layout: names the files.
        output_dtype: of the voxels in the file.
        allow_missing_keys: whether a key may be missing.

    Raises:
        UserError: when the disk is full, naming the file.
        OSError: when a file cannot be written for another reason.
    """

    def __init__(
        self,
        keys: KeysCollection,
        folder_layout: FolderLayoutBase,
        output_dtype: Any = np.float32,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys=allow_missing_keys, folder_layout=folder_layout)
        self.folder_layout = folder_layout
        self.output_dtype = output_dtype

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the volumes, and return the case as it is."""
        case: dict[Hashable, Any] = dict(data)
        for key in self.key_iterator(case):
            self._save(case[key])
        return case

    def _save(self, volume: MetaTensor) -> None:
        path = self.folder_layout.filename(**default_name_formatter(volume.meta, self))
        writer = NibabelWriter(output_dtype=self.output_dtype)
        writer.set_data_array(volume, channel_dim=0)
        writer.set_metadata(volume.meta, resample=False)
        image = writer.create_backend_obj(writer.data_obj, affine=writer.affine, dtype=writer.output_dtype)
        image.set_sform(image.affine, code=1)
        image.set_qform(image.affine, code=1)
        # no time in it: one prediction is one file, byte for byte
        content = gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
        atomic_write(path, lambda stream: stream.write(content))


SaveNiftiD = SaveNiftiDict = SaveNiftid
