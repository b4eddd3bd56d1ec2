"""Batches of a labelled and an unlabelled stream, each endless, reshuffled, and a pure function of the seed."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from collections.abc import Collection, Iterator
from functools import lru_cache
from multiprocessing import parent_process
from typing import Any

import torch
from monai.data.utils import list_data_collate
from monai.transforms import Randomizable
from torch.utils.data import DataLoader, Dataset, get_worker_info

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.seeding import derive_seed

__all__ = ["TwoStreamLoader"]

logger = logging.getLogger(__name__)

# how torch says that a worker is gone, and by what
_DEAD_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) ((?:is killed by signal: \w+)?)")

# (stream, epoch of that stream, index of the case)
Draw = tuple[str, int, int]


class TwoStreamLoader:
    """Endless batches ``{"labeled": {...}, "unlabeled": {...}}``.

    Beside what its data set gives, a case has ``case``, the name of its image, and ``scan``, its place in the list, by
    which a method knows crops of one scan.

    Each stream runs through its data set in an order drawn anew for every pass; the random transforms of a case are
    seeded with ``(seed, stream, pass, index)`` just before it is read. So batch ``n`` is the same with any number of
    workers, cached or not, and after :meth:`start_at`.

    Args:
        labeled: MONAI data set of labelled cases, whose random transforms sit in ``dataset.transform``.
        unlabeled: likewise of unlabelled cases; ``None`` or empty where there are none.
        labeled_batch_size: labelled cases a batch; 0 leaves the stream out.
        unlabeled_batch_size: unlabelled cases a batch; 0 leaves the stream out.
        seed: of order and augmentation.
        num_workers: processes that read; 0 reads in this one.
        pin_memory: page-locked batches, for copies to a GPU.
        rank: number of this process among those that train together; each reads its own part of every step's cases.
        processes: number of these processes; batch sizes are those of one.

    Raises:
        UserError: when a stream with a batch size has no case.
        ValueError: when a batch size is negative or both are 0, or ``rank`` is none of the processes.
    """

    def __init__(
        self,
        labeled: Dataset,
        unlabeled: Dataset | None = None,
        labeled_batch_size: int = 2,
        unlabeled_batch_size: int = 2,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        sizes = {"labeled": labeled_batch_size, "unlabeled": unlabeled_batch_size}
        if min(sizes.values()) < 0 or max(sizes.values()) == 0:
            raise ValueError(f"batch sizes must be 0 or more and not both 0, got {sizes}.")
        if not 0 <= rank < processes:
            raise ValueError(f"`rank` must be in 0 to {processes - 1}, got {rank}.")
        datasets = {"labeled": labeled, "unlabeled": unlabeled}
        for name, size in sizes.items():
            count = len(datasets[name] or ()) if size else 0  # type: ignore[arg-type]
            if size and not count:
                remedy = f"Add cases to that part of the data list, or set {name}_batch_size to 0."
                raise UserError(f"there is no {name} case to train on. {remedy}")
            logger.info(f"{name} stream: {count} cases, {size} a step" if size else f"no {name} stream")
        self.sizes = {name: size for name, size in sizes.items() if size > 0}
        self.dataset = _SeededStreams({name: datasets[name] for name in self.sizes}, seed, num_workers)
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.rank, self.processes = rank, processes
        self._start = 0

    def start_at(self, step: int) -> None:
        """Let the next iterator begin with the batch of optimiser step ``step``, counted from 0."""
        self._start = step

    def __iter__(self) -> Iterator[dict[str, dict[str, Any]]]:
        return iter(
            DataLoader(
                self.dataset,
                batch_sampler=self._draws(self._start),  # type: ignore[arg-type]
                num_workers=self.num_workers,
                collate_fn=_collate,
                pin_memory=self.pin_memory,
                # its own generator, or every new iterator would draw from the one that dropout uses
                generator=torch.Generator(),
                worker_init_fn=_leave_signals_to_the_parent,
            )
        )

    def explain(self, error: RuntimeError) -> UserError | None:
        """What ended a process that reads, and the scan that it was at; None where an error says something else."""
        if (found := _DEAD_WORKER.search(str(error))) is None:
            return None
        pids = {int(pid) for pid in found[1].split(",")}
        cases = self.dataset.read_by(pids)
        how = found[2].strip() or "exited unexpectedly"
        return UserError(
            f"{', '.join(cases) or 'a scan'}: the process that read it {how}, most often for lack of memory. "
            "Lower num_workers, cache_rate or patch_size, or leave the scan out; "
            "`monai-ssl check` tells whether it is broken. The last checkpoint is intact."
        )

    def _draws(self, step: int) -> Iterator[list[Draw]]:
        while True:
            yield [
                self.dataset.draw(name, (step * self.processes + self.rank) * size + offset)
                for name, size in self.sizes.items()
                for offset in range(size)
            ]
            step += 1


class _SeededStreams(Dataset):
    """Cases of several data sets, addressed by draws, each read under its own seed."""

    def __init__(self, datasets: dict[str, Any], seed: int, num_workers: int = 0) -> None:
        self.datasets = datasets
        self.seed = seed
        # a row a worker: its process, and the stream and index of the case that it is at; no lock, each has its own row
        self._at = torch.zeros(num_workers, 3, dtype=torch.int64).share_memory_()
        self._order = lru_cache(maxsize=4)(self._shuffle)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_order"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=4)(self._shuffle)

    def _shuffle(self, stream: str, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, stream, epoch, "order"))
        return torch.randperm(len(self.datasets[stream]), generator=generator).tolist()

    def draw(self, stream: str, position: int) -> Draw:
        """The case at ``position`` of the endless stream."""
        epoch, place = divmod(position, len(self.datasets[stream]))
        return stream, epoch, self._order(stream, epoch)[place]

    def read_by(self, pids: Collection[int]) -> list[str]:
        """The cases that workers of these processes are at."""
        streams = list(self.datasets)
        return [self._name(streams[stream], index) for pid, stream, index in self._at.tolist() if pid in pids]

    def _name(self, stream: str, index: int) -> str:
        return str(self.datasets[stream].data[index].get("image"))

    def __getitem__(self, draw: Draw) -> tuple[str, list[dict[str, Any]]]:
        stream, epoch, index = draw
        dataset = self.datasets[stream]
        name = self._name(stream, index)
        if (worker := get_worker_info()) is not None:
            self._at[worker.id] = torch.tensor([os.getpid(), list(self.datasets).index(stream), index])
        if isinstance(transform := getattr(dataset, "transform", None), Randomizable):
            transform.set_random_state(seed=derive_seed(self.seed, stream, epoch, index, bits=32))
        items = dataset[index]
        items = items if isinstance(items, list) else [items]
        return stream, [{**item, "case": name, "scan": index} for item in items]


def _leave_signals_to_the_parent(worker: int) -> None:
    # a scheduler signals every process of a job: the trainer finishes its step, for which it needs its workers
    for number in (signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _end_with(run: Any) -> None:
    # not os.getppid(): where workers come from a server of processes, that server lives as long as they do
    while run.is_alive():
        told = signal.sigtimedwait({signal.SIGTERM}, 1.0)
        if told is not None and told.si_pid == run.pid:
            break
    os._exit(0)


def _collate(items: list[tuple[str, list[dict[str, Any]]]]) -> dict[str, dict[str, Any]]:
    streams: dict[str, list[dict[str, Any]]] = {}
    for stream, cases in items:
        streams.setdefault(stream, []).extend(cases)
    return {stream: list_data_collate(cases) for stream, cases in streams.items()}
