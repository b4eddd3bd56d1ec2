"""What a bundle would reach if it were run, told without running or importing anything of it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from monai_ssl.utils.config_entries import CONFIG_ENDINGS, LOGGING_ENDINGS, Entry, read_entries
from monai_ssl.utils.dotted_names import doubt_of
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.expression_marks import doubts_of_expression, imported_names
from monai_ssl.utils.pickle_marks import doubts_of_pickles, holds_pickles

__all__ = ["Finding", "Inspection", "inspect_bundle"]

_FILES = 5_000
# of all files together, so that a bundle of large ones takes minutes at most
_CONFIG_BYTES, _PICKLES = 2**22, 50
_SKIPPED = "it was not looked at"
_CODE = (
    ".py",
    ".pyc",
    ".pyd",
    ".so",
    ".dll",
    ".dylib",
    ".sh",
    ".bat",
    ".ps1",
    ".exe",
    ".jar",
    ".ipynb",
    ".whl",
    ".egg",
)
_ENGINES = (".plan", ".trt", ".engine")
_STARTS = (b"#!", b"\x7fELF", b"MZ")
# the classes of logging that need no file and no address
_LOGGERS = re.compile(r"(logging\.)?(StreamHandler|NullHandler|Formatter|BufferingFormatter)")
_STREAMS = re.compile(r"\bsys\.(stdout|stderr)\b")


@dataclass(frozen=True)
class Finding:
    """Something in a bundle.

    Attributes:
        kind: ``target``, ``expression``, ``import``, ``reference``, ``config``, ``weights``, ``file`` or ``link``.
        file: it is in, relative to the bundle.
        place: MONAI's id of an entry; empty for a file.
        text: the entry.
        marks: why someone should look at it before the bundle is run; empty where it stays inside the packages.
    """

    kind: str
    file: str
    place: str = ""
    text: str = ""
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What is in a bundle.

    Attributes:
        bundle: its folder.
        findings: by file and place.
    """

    bundle: str
    findings: tuple[Finding, ...]

    @property
    def marked(self) -> tuple[Finding, ...]:
        """Those that someone should look at."""
        return tuple(finding for finding in self.findings if finding.marks)

    def as_dict(self) -> dict[str, Any]:
        """Return it all as plain values."""
        return {
            "bundle": self.bundle,
            "marked": len(self.marked),
            "findings": [_encodable(asdict(finding)) for finding in self.findings],
        }


def inspect_bundle(folder: str | os.PathLike[str]) -> Inspection:
    """List every file of a bundle, and every target, expression and import of its configs.

    Nothing of it is imported, evaluated or unpickled, and no link is followed. A mark is no verdict, and neither is its
    absence: names are judged, not what functions do with their arguments.

    Args:
        folder: of the bundle.

    Raises:
        UserError: when there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{root}: is no folder. Give the folder of a bundle; unpack an archive first.")
    findings: list[Finding] = []
    configs: dict[str, list[Entry]] = {}
    budget = _Budget()
    for count, entry in enumerate(_entries_of(root)):
        name = os.path.relpath(entry.path, root)
        if count >= _FILES:
            findings.append(Finding("file", name, marks=(f"comes after {_FILES} files; the rest was not looked at",)))
            break
        try:
            found, texts = _of_file(entry, name, root, budget)
        except OSError as error:
            found, texts = Finding("file", name, marks=(f"cannot be read ({error.strerror})",)), []
        findings.append(found)
        configs[name] = texts
    names = _names(configs)
    for name, texts in configs.items():
        for text in texts:
            judge = _of_logging if name.lower().endswith(LOGGING_ENDINGS) else _of_entry
            findings.extend(judge(name, text, names))
    return Inspection(str(root), tuple(sorted(findings, key=lambda f: (f.file, f.kind != "file", f.place, f.kind))))


@dataclass
class _Budget:
    """What may still be read."""

    config_bytes: int = _CONFIG_BYTES
    pickles: int = _PICKLES

    def allows_config(self, size: int) -> bool:
        self.config_bytes -= size
        return self.config_bytes >= 0

    def allows_pickle(self) -> bool:
        self.pickles -= 1
        return self.pickles >= 0


def _encodable(value: Any) -> Any:
    # names of files and texts of JSON may hold half a character
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {name: _encodable(inner) for name, inner in value.items()}
    return [_encodable(inner) for inner in value]


def _entries_of(root: Path) -> Iterator[os.DirEntry[str]]:
    left = [str(root)]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                else:
                    yield entry


def _of_file(entry: os.DirEntry[str], name: str, root: Path, budget: _Budget) -> tuple[Finding, list[Entry]]:
    path, ending = Path(entry.path), Path(entry.name).suffix.lower()
    if entry.is_symlink():
        target = os.path.realpath(path)
        outside = not Path(target).is_relative_to(root.resolve())
        marks = ("leads out of the bundle, and was not followed",) if outside else ()
        return Finding("link", name, "", os.readlink(path), marks), []
    status = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        return Finding("file", name, marks=("is no regular file",)), []
    started = _marks_of_start(path, ending, status.st_mode)
    if ending in (*CONFIG_ENDINGS, *LOGGING_ENDINGS):
        if not budget.allows_config(status.st_size):
            return Finding("config", name, marks=(f"comes after {_CONFIG_BYTES} bytes of configs: {_SKIPPED}",)), []
        return Finding("config", name, marks=started), read_entries(path)
    if ending == ".safetensors":
        return Finding("weights", name, "", "safetensors", (*started, *_marks_of_safetensors(path))), []
    if holds_pickles(path):
        if not budget.allows_pickle():
            return Finding("weights", name, marks=(f"comes after {_PICKLES} files of pickles: {_SKIPPED}",)), []
        doubts = doubts_of_pickles(path)
        text = "" if doubts else "tensors and plain values: torch.load(weights_only=True) reads it"
        return Finding("weights", name, "", text, (*started, *doubts)), []
    return Finding("file", name, marks=started), []


def _marks_of_start(path: Path, ending: str, mode: int) -> tuple[str, ...]:
    if ending in _CODE:
        return ("is code",)
    if ending in _ENGINES:
        return ("is a compiled network, which runs where it is loaded",)
    with open(path, "rb") as stream:
        if stream.read(4).startswith(_STARTS):
            return ("is a program",)
    return ("may be executed",) if mode & 0o111 else ()


def _marks_of_safetensors(path: Path) -> tuple[str, ...]:
    try:
        with safe_open(path, framework="np"):
            return ()
    except (SafetensorError, OSError, ValueError) as error:
        return (f"cannot be read as safetensors ({type(error).__name__})",)


def _names(configs: dict[str, list[Entry]]) -> dict[str, str]:
    names: dict[str, str] = {}
    for texts in configs.values():
        for entry in texts:
            if entry.text.startswith("$"):
                names |= imported_names(entry.text[1:])
    return names


def _of_entry(file: str, entry: Entry, names: dict[str, str]) -> Iterator[Finding]:
    text, key = entry.text, entry.place.rsplit("::", 1)[-1]
    if entry.fault:
        yield Finding("config", file, entry.place, text, (entry.fault,))
    elif text.startswith("$"):
        marks = doubts_of_expression(text[1:], names)
        if key == "_target_":
            marks.append("is worked out while the bundle runs")
        kind = "import" if text[1:].strip().startswith(("import ", "from ")) else "expression"
        yield Finding(kind, file, entry.place, text, tuple(marks))
    elif key == "_target_":
        doubt = "is worked out while the bundle runs" if text.startswith(("@", "%")) else doubt_of(text)
        yield Finding("target", file, entry.place, text, (doubt,) if doubt else ())
    elif text.startswith("%") and (path := text[1:].split("::")[0].split("#")[0]).endswith(CONFIG_ENDINGS):
        outside = os.path.isabs(path) or ".." in Path(path).parts
        yield Finding("reference", file, entry.place, text, ("is a file outside of the bundle",) if outside else ())
    elif key in ("reader", "writer") and "." in text and not text.startswith("@"):
        doubt = doubt_of(text)  # MONAI imports it by this name
        yield Finding("target", file, entry.place, text, (doubt,) if doubt else ())


def _of_logging(file: str, entry: Entry, names: dict[str, str]) -> Iterator[Finding]:
    if entry.fault:
        yield Finding("config", file, entry.place, entry.text, (entry.fault,))
    elif entry.place.endswith("::class"):
        plain = _LOGGERS.fullmatch(entry.text)
        yield Finding(
            "target", file, entry.place, entry.text, () if plain else ("is a class that writes or is unknown",)
        )
    else:
        marks = doubts_of_expression(_STREAMS.sub("None", entry.text))
        yield Finding("expression", file, entry.place, entry.text, tuple(marks))
