"""What a pickle would call if it were read, from its opcodes alone: nothing is unpickled."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

__all__ = ["doubts_of_pickles", "globals_of", "holds_pickles"]

_LARGEST = (
    2**26
)  # bytes of a pickle that is looked at; of a network with a thousand tensors it is a tenth of a megabyte
_MOST = 2_000_000  # opcodes
_FILES = 20  # pickles in an archive that are looked at
_ZIP, _TAR, _NUMPY, _OBJECTS = b"PK\x03\x04", b"ustar", b"\x93NUMPY", b"'|O'"
_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how the first of the pickles of a torch file before 1.6 ends
_ENDINGS = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".th", ".ts", ".npz")
# what torch.load(weights_only=True) makes
_PLAIN = re.compile(
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|(builtins|__builtin__)\.(bytearray|set|complex)"
    r"|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout|torch\.(Size|device|Tensor)"
    r"|torch\.storage\.(Untyped|Typed)Storage|torch\.\w+Storage|torch\._utils\._rebuild_\w+"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\.(u?int|float|bfloat|complex|q?u?int|bits|bool|half|double)\w*"
)


def holds_pickles(path: Path) -> bool:
    """Whether a file is made of pickles, by its name or its first bytes.

    Args:
        path: a regular file.
    """
    if path.suffix.lower() in _ENDINGS:
        return True
    with open(path, "rb") as stream:
        head = stream.read(265)
    pickled = head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05"
    return pickled or head.startswith((_ZIP, _NUMPY)) or head[257:262] == _TAR


def doubts_of_pickles(path: Path) -> list[str]:
    """Say what in a file would run, or why it cannot be told; empty where it holds tensors and plain values alone.

    Args:
        path: of a file that :func:`holds_pickles`.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(10_000)
            stream.seek(0)
            if head.startswith(_NUMPY):
                return ["holds pickled objects (an array of type object)"] if _OBJECTS in head else []
            if head[257:262] == _TAR:
                return ["is a tar archive, which was not looked into"]
            if head.startswith(_ZIP):
                return list(dict.fromkeys(_of_archive(stream)))
            # the values of a network lie behind the pickles of an old torch file
            return list(
                dict.fromkeys(
                    _of_stream(io.BytesIO(stream.read(_LARGEST)), 5 if head[2 : 2 + len(_LEGACY)] == _LEGACY else 1)
                )
            )
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError, RuntimeError) as error:
        return [f"cannot be read as pickles ({type(error).__name__})"]


def globals_of(stream: IO[bytes]) -> Iterator[str]:
    """The dotted names of what one pickle asks for; ``?`` for a name that is worked out while it is read.

    Args:
        stream: at its beginning; afterwards at its end.

    Raises:
        ValueError: for what is no pickle, and for more opcodes than any file of weights has.
    """
    strings: list[Any] = []
    memo: dict[Any, Any] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > _MOST:
            raise ValueError("too many opcodes")
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
            strings = []
        elif name == "STACK_GLOBAL":
            known = len(strings) > 1 and all(isinstance(part, str) for part in strings[-2:])
            yield ".".join(strings[-2:]) if known else "?"
            strings = []
        elif name.startswith("EXT"):
            yield "?"
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = strings[-1] if strings else None
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            strings = [*strings[-1:], memo.get(argument)]
        elif name in ("PROTO", "FRAME"):
            continue
        else:
            strings = [*strings[-1:], argument if isinstance(argument, str) and "UNICODE" in name else None]


def _of_archive(stream: IO[bytes]) -> Iterator[str]:
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            yield "is a TorchScript archive, which is a program"
        pickles = [entry for entry in entries if entry.filename.endswith((".pkl", ".npy"))]
        if not pickles:
            yield "is an archive, which was not looked into"
        if len(pickles) > _FILES:
            yield f"holds more than {_FILES} pickles, of which the rest was not looked at"
        for entry in pickles[:_FILES]:
            with archive.open(entry) as content:
                if entry.filename.endswith(".npy"):
                    if _OBJECTS in content.read(10_000):
                        yield "holds pickled objects (an array of type object)"
                elif entry.file_size > _LARGEST:
                    yield f"holds a pickle larger than {_LARGEST} bytes, which was not looked at"
                else:
                    yield from _of_stream(io.BytesIO(content.read(_LARGEST)), 1)


def _of_stream(stream: IO[bytes], pickles: int) -> Iterator[str]:
    for _ in range(pickles):
        for name in globals_of(stream):
            if name == "?":
                yield "would call something whose name is worked out while it is read"
            elif not _PLAIN.fullmatch(name):
                yield f"would call {name[:100]}"
