"""Where volumes made of a scan are saved, named as the whole package names them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai.data import FolderLayoutBase

from monai_ssl.data.images import prediction_path

__all__ = ["PredictionLayout"]


class PredictionLayout(FolderLayoutBase):
    """Names a file after its scan, see :func:`~monai_ssl.data.images.prediction_path`.

    MONAI's own layout takes what follows the last dot for an ending, also in the folder's name of a DICOM series, and
    ``<case>_0000`` for the name of a case.

    Args:
        output_dir: where files go; made where it is not there.
        postfix: what is added to a scan's stem.
        channels: of a case, see :func:`~monai_ssl.data.formats.stem_of`.
        data_root_dir: folder below which scans lie in folders that are made again in ``output_dir``; by default none
            are.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        postfix: str,
        channels: int = 1,
        data_root_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.postfix = postfix
        self.channels = channels
        self.data_root_dir = data_root_dir

    def filename(self, **kwargs: Any) -> Path:
        """Return the path of the file, whose folder is there.

        Args:
            kwargs: ``subject``, the path of the scan; what MONAI gives beside it is not used.
        """
        scan, folder = str(kwargs["subject"]), self.output_dir
        if self.data_root_dir is not None:
            folder /= os.path.relpath(os.path.dirname(scan), self.data_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return prediction_path(scan, folder, self.postfix, channels=self.channels)
