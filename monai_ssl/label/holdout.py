"""Which labelled studies a server keeps for validation, training after training."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import write_json

__all__ = ["hold_out"]


def hold_out(path: str | os.PathLike[str], studies: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """Part the labelled studies for a training; one that any training has learned from is never validated on.

    A server trains on from its own last model. Drawn anew every time, the studies for validation would be among those
    that the model knows, and the accuracy that the annotator sees would be too good. So a file remembers both parts:
    who was for validation stays so, and a newly labelled study goes there while the share is not reached.

    Args:
        path: the file, as JSON; written anew.
        studies: names of the labelled ones, in the order in which they were labelled, as far as that is known.
        share: of them for validation, in [0, 1); rounded down.

    Returns:
        The names for training and those for validation.

    Raises:
        UserError: when the share is out of range or the file is broken.
    """
    if not 0.0 <= share < 1.0:
        raise UserError(f"validation must be a share in [0, 1), got {share}.")
    learned, kept = _read(Path(path))
    wanted = int(share * len(studies))
    validation = [name for name in studies if name in kept - learned] if share else []
    for name in reversed(studies):  # the newest are most surely unseen
        if len(validation) >= wanted:
            break
        if name not in learned and name not in validation:
            validation.append(name)
    training = [name for name in studies if name not in validation]
    write_json(path, {"learned": sorted(learned | set(training)), "validation": sorted(kept | set(validation))})
    return training, [name for name in studies if name in validation]


def _read(path: Path) -> tuple[set[str], set[str]]:
    if not path.is_file():
        return set(), set()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return set(content["learned"]), set(content["validation"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read; remove it to part the labelled studies anew ({error!r}).") from error
