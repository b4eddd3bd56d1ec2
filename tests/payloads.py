"""Hostile files of weights: each would make a file, or fill time or memory, where it is read carelessly."""

from __future__ import annotations

import functools
import io
import json
import operator
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["ARMED", "HOSTILE"]

Maker = Callable[[Path, Path], None]


class Call:
    """Unpickled, it calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def touching(victim: Path) -> Call:
    return Call(os.system, f"touch {victim}")


def archive(path: Path, pickled: bytes, packed: bool = False) -> None:
    """A file as of ``torch.save``, with a pickle of one's own."""
    torch.save({"weight": torch.ones(2, 2)}, path)
    with zipfile.ZipFile(path) as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as changed:
        for name, content in entries.items():
            changed.writestr(name, pickled if name.endswith("data.pkl") else content)


def tar_of_torch(path: Path, victim: Path) -> None:
    with tarfile.open(path, "w") as whole:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(touching(victim), protocol=2)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            whole.addfile(entry, io.BytesIO(content))


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def object_array(path: Path, victim: Path) -> None:
    with open(path, "wb") as stream:
        np.save(stream, np.array([touching(victim)], dtype=object))


def script(path: Path, victim: Path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(path))  # type: ignore[no-untyped-call]


F32 = {"dtype": "F32", "shape": [2, 2]}
OVERLAP = {"weight": {**F32, "data_offsets": [0, 16]}, "bias": {**F32, "data_offsets": [8, 24]}}
HUGE = {"weight": {"dtype": "F32", "shape": [2**31, 2**31], "data_offsets": [0, 16]}}
ITSELF = b"\x80\x02}q\x00(X\x05\x00\x00\x00modelq\x01h\x00X\x09\x00\x00\x00objectiveq\x02h\x00u."

ARMED: dict[str, Maker] = {
    **{
        f"pickle protocol {protocol}": lambda path, victim, protocol=protocol: path.write_bytes(
            pickle.dumps(touching(victim), protocol=protocol)
        )
        for protocol in range(6)
    },
    "exec": lambda path, victim: path.write_bytes(
        pickle.dumps(Call(exec, f"open({str(victim)!r}, 'w').close()"), protocol=2)
    ),
    "eval in a torch archive": lambda path, victim: archive(
        path, pickle.dumps(Call(eval, f"open({str(victim)!r}, 'w').close()"), protocol=2)
    ),
    "value of a state dict": lambda path, victim: torch.save({"weight": torch.ones(2, 2), "x": touching(victim)}, path),
    "nested in a checkpoint": lambda path, victim: torch.save(
        {"format": 1, "objective": {"network.weight": [Call(subprocess.call, ["touch", str(victim)])]}}, path
    ),
    "legacy torch file": lambda path, victim: torch.save(
        {"weight": touching(victim)}, path, _use_new_zipfile_serialization=False
    ),
    "partial and operator": lambda path, victim: torch.save(
        {"weight": Call(operator.call, functools.partial(os.system, f"touch {victim}"))}
        if hasattr(operator, "call")
        else {"weight": Call(functools.reduce, os.system, [f"touch {victim}"])},
        path,
    ),
    "pickle called safetensors": lambda path, victim: torch.save(
        {"weight": touching(victim)}, path, _use_new_zipfile_serialization=False
    ),
}
"""They run code; by name, what writes the file and what it would make."""

HOSTILE: dict[str, Maker] = {
    **ARMED,
    "legacy tar": tar_of_torch,
    "TorchScript": script,
    "zip bomb": lambda path, victim: archive(path, b"\x80\x02" + b"]0" * 5_000_000 + b"N.", packed=True),
    "deep recursion": lambda path, victim: archive(path, b"\x80\x02)" + b"\x85" * 50_000 + b"."),
    "dictionary of itself": lambda path, victim: archive(path, ITSELF),
    "shape without values": lambda path, victim: torch.save({"weight": torch.ones(1).expand(2**20, 2**20)}, path),
    "memory asked for": lambda path, victim: archive(
        path, b"\x80\x02cbuiltins\nbytearray\n\x8a\x07" + b"\xff" * 6 + b"\x7f\x85R."
    ),
    "object array": object_array,
    "empty": lambda path, victim: path.write_bytes(b""),
    "safetensors with an absurd header": lambda path, victim: path.write_bytes(struct.pack("<Q", 2**62) + b"{}"),
    "safetensors that overlap": lambda path, victim: path.write_bytes(safetensors(OVERLAP, bytes(24))),
    "safetensors of a huge shape": lambda path, victim: path.write_bytes(safetensors(HUGE, bytes(16))),
    "safetensors nested deeply": lambda path, victim: path.write_bytes(
        struct.pack("<Q", 200_000) + b'{"a":' + b"[" * 199_995
    ),
}
"""The same, and those that run nothing but break or exhaust a reader."""
