"""Which cases a process takes where several score them together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from monai_ssl.utils.errors import UserError

__all__ = ["own_share"]

Case = TypeVar("Case")


def own_share(cases: Sequence[Case], rank: int, processes: int) -> list[Case]:
    """Every case of a validation goes to one process: the ``rank``-th and each ``processes``-th after it.

    Args:
        cases: of all processes.
        rank: number of this process, from 0.
        processes: their number.

    Raises:
        ValueError: when ``rank`` is none of the processes.
        UserError: when there are cases, but not one for each process: an evaluator without a case runs no step, and
            the others would wait for its scores for ever.
    """
    if not 0 <= rank < processes:
        raise ValueError(f"`rank` must be in 0 to {processes - 1}, got {rank}.")
    if 0 < len(cases) < processes:
        raise UserError(
            f"{processes} processes train together, and the list's `validation` has {len(cases)}: each process needs a "
            "case of its own. Take fewer processes, list more validation cases, or none."
        )
    return list(cases[rank::processes])
