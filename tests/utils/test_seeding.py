from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from monai_ssl.utils.seeding import derive_seed, seed_torch


def test_is_the_digest_of_the_parts() -> None:
    digest = hashlib.blake2b(b"3\x1funlabeled\x1f0\x1f17", digest_size=8).hexdigest()
    assert derive_seed(3, "unlabeled", 0, 17, bits=64) == int(digest, 16)
    assert derive_seed(3, "unlabeled", 0, 17, bits=32) == int(digest[:8], 16)


def test_is_the_same_in_another_process() -> None:
    code = "from monai_ssl.utils.seeding import derive_seed; import sys; sys.stdout.write(str(derive_seed(3, 'a', 1)))"
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert int(other.stdout) == derive_seed(3, "a", 1)


def test_neighbours_differ_and_parts_do_not_run_together() -> None:
    grid = list(itertools.product(range(5), ("labeled", "unlabeled"), range(10), range(20)))
    assert len({derive_seed(*parts) for parts in grid}) == len(grid)
    assert len({derive_seed(*parts, bits=32) for parts in grid}) == len(grid)
    assert derive_seed(1, 23) != derive_seed(12, 3)
    assert derive_seed("a", "b") != derive_seed("ab")
    assert derive_seed(1, 2) != derive_seed(2, 1)


@pytest.mark.parametrize("bits", [1, 32, 63, 64])
def test_every_bit_is_used(bits: int) -> None:
    seeds = [derive_seed(index, bits=bits) for index in range(400)]
    assert min(seeds) >= 0
    assert max(seeds) < 2**bits
    for bit in range(bits):
        assert 120 < sum(seed >> bit & 1 for seed in seeds) < 280


@pytest.mark.parametrize("bits", [0, 65, -1])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=rf"`bits` must be in 1\.\.64, got {bits}\."):
        derive_seed(0, bits=bits)


def test_torch_draws_are_a_function_of_the_parts() -> None:
    def draw(*parts: int | str) -> torch.Tensor:
        torch.rand(int(torch.randint(5, ())))  # whatever was drawn before
        seed_torch(*parts)
        return torch.cat([torch.rand(3), torch.randn(3), nn.functional.dropout(torch.ones(20), 0.5)])

    assert torch.equal(draw(0, "step", 3), draw(0, "step", 3))
    assert not torch.equal(draw(0, "step", 3), draw(0, "step", 4))
    assert not torch.equal(draw(0, "step", 3), draw(1, "step", 3))
