"""Several processes that train together."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

__all__ = ["join_processes"]


def join_processes(device: torch.device) -> None:
    """Meet the other processes that ``torchrun`` has started: over NCCL on GPUs, over gloo on CPUs.

    After ``--max-restarts`` has restarted them, ``torchrun`` hands out the store of addresses that the processes before
    have left theirs in. So each attempt has a part of its own in it.

    Args:
        device: of this process.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank, world_size = next(iter(dist.rendezvous("env://")))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    backend = "nccl" if device.type == "cuda" else "gloo"
    store = dist.PrefixStore(f"attempt {attempt}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
