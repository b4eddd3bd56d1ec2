"""Studies of the MONAI Label server that a training runs in, where people go on working while it learns."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ssl.data.scans import ScanDataset
from monai_ssl.utils.bundle import inside_monai_label
from monai_ssl.utils.errors import UserError

__all__ = ["StudyDataset", "all_studies", "check_labels", "study_path", "unlabeled_studies"]

logger = logging.getLogger(__name__)

_SHOWN = 5  # studies that a line names


def unlabeled_studies() -> list[dict[str, str]]:
    """The server's studies without a final label, as ``{"image": path}``; none outside MONAI Label.

    The counterpart of :func:`~monai_ssl.data.cases.load_cases` with ``unlabeled``: images alone, and what label
    files there may be, such as proposals of a model, are not looked for. A study whose file is gone is left out and
    named.
    """
    return _studies("get_unlabeled_images", "unlabelled studies")


def all_studies() -> list[dict[str, str]]:
    """The server's studies with and without a label, as ``{"image": path}``; none outside MONAI Label.

    Raises:
        UserError: inside MONAI Label, when there is none.
    """
    studies = _studies("list_images", "studies, with and without a label,")
    if not studies and inside_monai_label():
        raise UserError("there is no study to learn from. Put NIfTI files into the server's studies folder.")
    return studies


def check_labels(cases: Sequence[Mapping[str, Any]]) -> None:
    """Say what to do where a server asks for a training before the first label; elsewhere the loader tells.

    Args:
        cases: the labelled ones.

    Raises:
        UserError: inside MONAI Label, when there is none.
    """
    if inside_monai_label() and not cases:
        raise UserError(
            "no study has a label yet: label one, submit it, and train again. Training ssl_pretraining needs no label."
        )


def study_path(store: Any, name: str) -> Path:
    """File of a study, fetched and converted where the studies lie on a DICOMweb server.

    Asked for the first time such a server's store names a temporary file, and from then on the lasting one.

    Args:
        store: MONAI Label's.
        name: of the study, as the store lists it.
    """
    store.get_image_uri(name)
    return Path(store.get_image_uri(name))


class StudyDataset(ScanDataset):
    """Scans of which one may be deleted or broken while a server trains: the next one is taken in its place.

    Inside MONAI Label a scan that cannot be read is named in one warning and not tried again. A labelled one that can
    be read and does not fit, such as a label with a value that is no class, still ends the training: a person must
    correct it. Outside MONAI Label it is a :class:`~monai_ssl.data.scans.ScanDataset`: there a broken file of a data
    list ends the run.

    Args:
        args: see :class:`~monai_ssl.data.scans.ScanDataset`.
        kwargs: likewise.

    Raises:
        UserError: as there; inside MONAI Label for a scan only when all of them are broken.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._broken: dict[int, str] = {}
        super().__init__(*args, **kwargs)

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except UserError as error:
            self._skip(idx, error)
            return None  # never asked for

    def _transform(self, index: int) -> Any:
        for place in [(index + step) % len(self.data) for step in range(len(self.data))]:
            if place not in self._broken:
                try:
                    return super()._transform(place)
                except UserError as error:
                    self._skip(place, error)
        raise UserError(f"none of {len(self.data)} studies can be used. The last: {list(self._broken.values())[-1]}")

    def _check(self, case: Mapping[str, Any], item: Mapping[str, Any]) -> None:
        try:
            super()._check(case, item)
        except UserError as error:
            if "label" not in case:
                raise
            raise _UnfitError(str(error)) from error

    def _skip(self, place: int, error: UserError) -> None:
        if not inside_monai_label() or isinstance(error, _UnfitError):
            raise error
        self._broken[place] = str(error)
        logger.warning(f"{error} It is skipped.")


class _UnfitError(UserError):
    """A labelled scan that can be read and is not what the network takes."""


def _studies(method: str, what: str) -> list[dict[str, str]]:
    if not inside_monai_label():
        return []
    # not at the top: it is there in a server's environment alone
    store = importlib.import_module("monailabel.interfaces.utils.app").app_instance().datastore()
    files = [study_path(store, name) for name in sorted(getattr(store, method)())]
    found = [file for file in files if file.is_file()]
    _tell_of_missing([file for file in files if not file.is_file()])
    logger.info(f"learning from {len(found)} {what} of this server")
    return [{"image": str(file)} for file in found]


def _tell_of_missing(files: Iterable[Path]) -> None:
    names = [file.name for file in files]
    if names:
        shown = ", ".join(names[:_SHOWN]) + (", .." if len(names) > _SHOWN else "")
        logger.warning(f"{len(names)} studies are gone and are skipped: {shown}")
