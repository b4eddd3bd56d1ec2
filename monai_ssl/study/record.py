"""``run.json``: what a run was made from, and which of its processes have ended well."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import write_json

__all__ = ["RunRecord", "digest"]


@dataclass(frozen=True)
class RunRecord:
    """The record in a run's folder.

    Attributes:
        folder: the run's folder.
        fingerprint: what the run is made from by the plan and the bundle as they are now: digests by name.
    """

    folder: Path
    fingerprint: Mapping[str, str]

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / "run.json"

    @property
    def trained(self) -> bool:
        """Whether the training, or pretraining, has ended."""
        return self.path.is_file() and bool(self._read()["trained"])

    @property
    def seconds(self) -> dict[str, float]:
        """How long the processes took that have ended well, by the name of their step; empty before any."""
        return dict(self._read()["seconds"]) if self.path.is_file() else {}

    def begin(self) -> None:
        """Make the folder and the record, or check the one that is there.

        Raises:
            UserError: see :meth:`check`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self.check()
        else:
            write_json(self.path, {"fingerprint": dict(self.fingerprint), "trained": False, "seconds": {}})

    def check(self) -> None:
        """Demand that the run was made from what it would be made from now.

        Raises:
            UserError: naming what has changed.
        """
        old = self._read().get("fingerprint", {}) if self.path.exists() else {}
        changed = [name for name, value in self.fingerprint.items() if old.get(name) != value]
        if changed:
            raise UserError(
                f"{self.path}: this run was made with other {', '.join(changed)}. Bring the old ones back, move the "
                "run's folder away, or start a study in another folder."
            )

    def end(self, step: str, seconds: float) -> None:
        """Note that a process ended well."""
        record = self._read()
        record["trained"] = record["trained"] or step in ("pretrain", "train")
        record["seconds"][step] = round(seconds, 1)
        write_json(self.path, record)

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def digest(content: Any) -> str:
    """A short hash of plain values."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
