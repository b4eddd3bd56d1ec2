"""Files of weights: read without ever running what a file may hold, and written as safetensors, which hold no code."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from monai_ssl import __version__
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write

__all__ = ["SAFETENSORS", "read_best", "read_plain", "save_safetensors"]

SAFETENSORS = ".safetensors"
"""Ending of a file that is tensors and nothing else, whatever it holds."""

_SMALL = 2**20  # bytes; a small buffer may repeat its values by a stride of 0


def read_plain(path: str | os.PathLike[str], map_location: Any = "cpu") -> Any:
    """The tensors and plain values of a file that ``torch.save`` or safetensors wrote; nothing else is ever made of it.

    A pickle may call any function while it is read. So this is the one place of the package that reads one, with
    ``weights_only=True``, and there is no other way if that fails.

    Args:
        path: of the file; one that ends in ``.safetensors`` is read as such.
        map_location: the device to read to.

    Raises:
        UserError: for a program (TorchScript), for an archive that grows when it is unpacked, and for a tensor that
            has more values than the file has bytes: a file takes no more memory than its size.
        Exception: whatever torch or safetensors raise for a file that is broken or holds something else.
    """
    path = Path(path)
    if path.suffix == SAFETENSORS:
        with safe_open(path, framework="pt", device=str(map_location)) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    _check_archive(path)
    content = torch.load(path, map_location=map_location, weights_only=True)
    _check_tensors(content, path)
    return content


def read_best(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a run's ``best.pt``: ``step``, ``score``, ``summary`` and, as ``network``, a state dict.

    Args:
        path: the file.

    Raises:
        UserError: when it is missing or broken.
    """
    reason = "an entry is missing or broken"
    try:
        best = read_plain(path)
        kinds = {"step": int, "score": float, "summary": dict, "network": dict}
        if all(isinstance(best[name], kind) for name, kind in kinds.items()):
            return dict(best)
    except UserError:
        raise
    except Exception as error:
        reason = type(error).__name__
    raise UserError(
        f"{path}: cannot be read as the best checkpoint of a run ({reason}). Restore it, or start anew with "
        "--overwrite true."
    )


def save_safetensors(state: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Write a state dict as safetensors through :func:`~monai_ssl.utils.files.atomic_write`.

    The format has no views: every name has its own values, tied weights under each of their names, so that any reader
    finds every entry. The file says of itself its format and the version of this package alone.

    Args:
        state: tensors by name, of any layout in memory.
        path: the target; its folder must exist.

    Raises:
        UserError: when the disk is full; the old file is still there.
    """
    tensors: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, value in state.items():
        own = value.detach().cpu().contiguous()
        address = own.untyped_storage().data_ptr()
        tensors[name] = own.clone() if address in taken else own
        taken.add(address)
    content = save(tensors, {"format": "pt", "monai_ssl": __version__})
    atomic_write(path, lambda stream: stream.write(content))


def _check_archive(path: Path) -> None:
    with open(path, "rb") as stream:
        if stream.read(4) != b"PK\x03\x04":
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise UserError(f"{path}: is a TorchScript archive, which is a program. Give the plain weights of the network.")
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise UserError(
            f"{path}: holds more than its size, which no file of torch.save does. Give the weights as they were saved."
        )


def _check_tensors(content: Any, path: Path) -> None:
    # a tensor of a few bytes may claim any shape by strides of 0, and fill the memory where it is copied
    largest = max(path.stat().st_size, _SMALL)
    left, seen = [content], set()
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            dense = value.layout is torch.strided and not (value.is_meta or value.is_quantized or value.is_nested)
            if not dense or value.nbytes > largest:
                raise UserError(f"{path}: holds a tensor without values of its own. Give a network's state_dict().")
        elif isinstance(value, (dict, list, tuple, set)) and id(value) not in seen:
            seen.add(id(value))  # a container may hold itself
            left.extend([*value.keys(), *value.values()] if isinstance(value, dict) else value)
