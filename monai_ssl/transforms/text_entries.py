"""Text that a host puts beside an image, kept out of the way of transforms that take it for the image's metadata."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import MapTransform

__all__ = [
    "PutTextBackD",
    "PutTextBackDict",
    "PutTextBackd",
    "SetTextAsideD",
    "SetTextAsideDict",
    "SetTextAsided",
]

_ASIDE = "aside:"


class SetTextAsided(MapTransform):
    """Rename the text entries ``<key>_...`` of a case, so that they are no longer taken for metadata of ``<key>``.

    MONAI Label gives a transform ``image_path``, a string, beside ``image``. From 1.6 on MONAI's ``Spacingd`` calls
    ``update`` of every entry whose name begins with ``image_`` where the image was read from NIfTI, and fails. Place
    this transform before it and :class:`PutTextBackd` after it: MONAI Label reads the entry again when it writes. A
    case without such entries passes as it is.

    Args:
        keys: of the images; a dictionary or an image whose name begins alike stays where it is.
        allow_missing_keys: pass over images that are not there.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            for name in [name for name in out if isinstance(name, str) and name.startswith(f"{key}_")]:
                if isinstance(out[name], str):
                    out[_ASIDE + name] = out.pop(name)
        return out


class PutTextBackd(MapTransform):
    """Undo :class:`SetTextAsided`.

    Args:
        keys: of the images, the same as there.
        allow_missing_keys: pass over images that are not there.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            for name in [name for name in out if isinstance(name, str) and name.startswith(f"{_ASIDE}{key}_")]:
                out[name.removeprefix(_ASIDE)] = out.pop(name)
        return out


SetTextAsideD = SetTextAsideDict = SetTextAsided
PutTextBackD = PutTextBackDict = PutTextBackd
