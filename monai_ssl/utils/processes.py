"""Several processes that train together."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

__all__ = ["join_processes", "leave_processes"]

_PATIENCE = timedelta(minutes=30)
_CHECKING = timedelta(hours=1)  # the first process checks all scans before it joins the others


def join_processes(device: torch.device) -> None:
    """Meet the other processes that ``torchrun`` has started: over NCCL on GPUs, over gloo on CPUs.

    After ``--max-restarts`` has restarted them, ``torchrun`` hands out the store of addresses that the processes before
    have left theirs in. So each attempt has a part of its own in it.

    Args:
        device: of this process.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank, world_size = next(iter(dist.rendezvous("env://", timeout=_CHECKING)))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    backend = "nccl" if device.type == "cuda" else "gloo"
    store = dist.PrefixStore(f"attempt {attempt}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=_CHECKING)


def leave_processes() -> None:
    """Wait until every process is here, above all the first one, which writes the files, and leave the group.

    They meet in the store, and not at a barrier: a barrier of gloo holds on to the tensors of the collective before it,
    and frees them when it ends, in a thread of its own. Where the interpreter ends at that moment, torch aborts the
    process, and ``torchrun`` stops the others in their last step.
    """
    meet(dist.distributed_c10d._get_default_store(), dist.get_world_size())
    dist.destroy_process_group()


def meet(store: dist.Store, count: int) -> None:
    """Return when ``count`` processes have called this, once, with the same store.

    Raises:
        torch.distributed.DistStoreError: when they have not after half an hour.
    """
    if store.add("leaving", 1) == count:
        store.set("left", "")
    store.wait(["left"], _PATIENCE)
