from __future__ import annotations

import socket
import threading
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from monai_ssl.utils.processes import join_processes, leave_processes, meet


def test_a_process_joins_with_a_part_of_the_store_for_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens to those who are restarted: tests/bundles/test_multi_process.py."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "1"}
    for name, value in {**environment, "TORCHELASTIC_RESTART_COUNT": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    join_processes(torch.device("cpu"))
    try:
        assert dist.get_backend() == "gloo"
        assert (dist.get_rank(), dist.get_world_size()) == (0, 1)
        store = dist.distributed_c10d._get_default_store()
        while isinstance(store, dist.PrefixStore):
            store = store.underlying_store
        keys = store.list_keys()
        assert keys
        assert all(key.startswith("attempt 3/") for key in keys)
    finally:
        leave_processes()
    assert not dist.is_initialized()


def test_nobody_goes_on_before_all_have_met() -> None:
    store, left = dist.HashStore(), []

    def wait(number: int) -> None:
        meet(store, 3)
        left.append(number)

    others = [threading.Thread(target=wait, args=(number,)) for number in range(2)]
    for other in others:
        other.start()
    time.sleep(0.3)
    assert left == []
    meet(store, 3)
    for other in others:
        other.join(timeout=60)
    assert sorted(left) == [0, 1]


def test_those_who_wait_in_vain_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_ssl.utils.processes._PATIENCE", timedelta(seconds=0.2))
    with pytest.raises(dist.DistStoreError):
        meet(dist.HashStore(), 2)
