"""MONAI's cached data set, whose errors name the scan."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from monai.data import CacheDataset

from monai_ssl.utils.errors import UserError, find_user_error

__all__ = ["ScanDataset"]

# how MONAI begins the message of a transform that fails, and of those that hold it
_APPLYING = re.compile(r"applying transform <?[\w.]*?(\w+)[ (]")


class ScanDataset(CacheDataset):
    """Scans read and transformed one by one, a share of them kept in memory up to their first random transform.

    Args:
        data: cases, ``{"image": path, ..}``.
        transform: a ``Compose``.
        cache_rate: share of the cases that is kept in memory, in [0, 1].
        channels: channels that every image must have; not looked at by default.
        classes: number of classes, background included; every label must be a whole number below it. Not looked at by
            default.
        finite: refuse a scan with values that are not finite, as it comes out of the transform: a NaN spreads over all
            that a network sees of the scan.

    Raises:
        UserError: when ``cache_rate`` is out of range, or a scan cannot be read and transformed or does not fit, naming
            its files.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable[..., Any],
        cache_rate: float = 0.0,
        channels: int | None = None,
        classes: int | None = None,
        finite: bool = False,
    ) -> None:
        if not 0.0 <= cache_rate <= 1.0:
            raise UserError(f"cache_rate must be in 0 to 1, got {cache_rate}.")
        self.channels = channels
        self.classes = classes
        self.finite = finite
        super().__init__(data=data, transform=transform, cache_rate=cache_rate, num_workers=1, progress=False)

    def _load_cache_item(self, idx: int) -> Any:
        with _errors_name(self.data[idx]):
            return super()._load_cache_item(idx)

    def _transform(self, index: int) -> Any:
        case = self.data[index]
        with _errors_name(case):
            result = super()._transform(index)
        for item in result if isinstance(result, list) else [result]:
            self._check(case, item)
        return result

    def _check(self, case: Mapping[str, Any], item: Mapping[str, Any]) -> None:
        if self.channels is not None:
            found, *sides = item["image"].shape
            if len(sides) < 3:
                raise UserError(f"{case['image']}: is 2D ({' x '.join(map(str, sides))} voxels), and scans are 3D.")
            if found != self.channels:
                told = f"has {found} channels, the network takes {self.channels} (in_channels)"
                raise UserError(f"{case['image']}: {told}.")
        if self.finite and not bool(torch.isfinite(item["image"]).all()):
            told = "has voxels that are not finite (NaN or infinite). Replace them, or leave the case out"
            raise UserError(f"{case['image']}: {told}.")
        if self.classes is not None and "label" in item:
            label = item["label"]
            wrong = label[(label < 0) | (label >= self.classes) | (label != label.round())]
            if wrong.numel():
                raise UserError(
                    f"{case['label']}: has the value {float(wrong[0]):g}; labels must be whole numbers from 0 to "
                    f"{self.classes - 1} (class_names). Correct the file, or name all classes in the list's `labels`."
                )


@contextmanager
def _errors_name(case: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # of a detection list, `label` is a list of classes
        named = [case[key] for key in ("image", "label") if isinstance(case.get(key), str)]
        files = " with ".join(named)
        # of a transform; MONAI wraps it
        if (told := find_user_error(error)) is not None:
            raise UserError(str(told) if any(file in str(told) for file in named) else f"{files}: {told}") from error
        raise UserError(
            f"{files}: cannot be read and prepared ({_innermost(error)}). Repair the file or leave the case out."
        ) from error


def _innermost(error: BaseException) -> str:
    transform = ""
    while (cause := error.__cause__ or error.__context__) is not None:
        transform = found[1] if (found := _APPLYING.match(str(error))) else transform
        error = cause
    told = " ".join(f"{f'{transform}: ' if transform else ''}{type(error).__name__}: {error}".split())
    # MONAI's LoadImage adds its readers, and what each of them said with its traceback
    return textwrap.shorten(re.split(r"\.? (Please install|Traceback \()", told)[0], 300, placeholder=" ..")
