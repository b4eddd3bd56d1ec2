"""Randomness as a function of names and numbers, so that nothing random has to be stored or replayed."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["derive_seed", "seed_torch"]


def derive_seed(*parts: int | str, bits: int = 63) -> int:
    """A seed that is a pure function of ``parts``, the same on every machine and in every process.

    Args:
        parts: what names the draw, for instance ``(seed, "unlabeled", epoch, index)``.
        bits: size of the seed: 63 for torch generators, 32 for MONAI's ``set_random_state``.

    Raises:
        ValueError: when ``bits`` is outside 1..64.
    """
    if not 1 <= bits <= 64:
        raise ValueError(f"`bits` must be in 1..64, got {bits}.")
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - bits)


def seed_torch(*parts: int | str) -> None:
    """Seed torch's generators, on every device, with ``derive_seed(*parts)``.

    The trainer calls this with the step's number before every step: dropout and noise are then a function of
    ``(seed, step)`` and a resumed run draws what an uninterrupted one would have drawn.
    """
    torch.manual_seed(derive_seed(*parts))
