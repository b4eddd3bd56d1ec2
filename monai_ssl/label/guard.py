"""What a request to the server may not hold beside code for a bundle's config: ways out of the studies folder."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Container
from pathlib import Path
from typing import Any

from monai_ssl.utils.errors import UserError

__all__ = ["check_image", "check_names"]

_NAMES = ("image", "id", "label", "tag", "label_tag", "model_filename", "session_id")
_UPLOAD = re.compile(r"tmp\w+(\.\w+)*")  # what the server calls a file that came with the request


def check_names(values: dict[str, Any]) -> None:
    """Refuse names of studies, labels and models that are paths.

    Args:
        values: by parameter.

    Raises:
        UserError: for a name with a separator, with ``..`` or with a null byte.
    """
    for key in _NAMES:
        name = values.get(key)
        if isinstance(name, str) and (re.search(r"[/\\\x00]", name) or name in (".", "..")):
            raise UserError(f"{key}: must be a name in the studies folder, got the path {name[:100]!r}.")


def check_image(image: Any, known: Container[str], sessions: str | None = None) -> None:
    """Refuse an image that is neither a study of the server nor a file that came with a request.

    Args:
        image: of a request for inference; anything but text is an array that the server made itself.
        known: names of the studies.
        sessions: folder of files that came with earlier requests.

    Raises:
        UserError: for another one, whether there is such a file or not.
    """
    if not isinstance(image, str) or image in known:
        return
    path = Path(image)
    if path.is_absolute() and path.parent == Path(tempfile.gettempdir()) and _UPLOAD.fullmatch(path.name):
        return
    if sessions and path.resolve().is_relative_to(Path(sessions).resolve()):
        return
    raise UserError(f"image: there is no study {image[:100]!r} on this server. GET /datastore/?output=all lists them.")
