"""Many files read once each, several at a time."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context

from monai_ssl.data.check_facts import Problem, ScanFacts
from monai_ssl.data.check_scan import read_facts, size_of

__all__ = ["read_all"]

_MOST_JOBS = 8
_WORTH = 200_000_000  # bytes that take longer to read than a process to start


def read_all(
    wanted: Mapping[str, bool],
    max_bytes: int,
    jobs: int | None = None,
    *,
    threads: bool = False,
    sampled: Collection[str] = (),
) -> Iterator[ScanFacts]:
    """Read files, several at a time; yields them as they come.

    A file that ends the process that reads it has that as its fault, and the others are read nevertheless.

    Args:
        wanted: paths, each with whether it is a label.
        max_bytes: as in :func:`~monai_ssl.data.check_scan.read_facts`.
        jobs: number of processes; with 1 this one reads. By default, one for each core up to eight, as far as there is
            enough to read.
        threads: of this process in place of processes, for a caller that may be any script: a new process would run it
            again. What takes time, decompression and checksums, holds no lock of Python's.
        sampled: paths of which some voxels are kept; as no result is held here, the caller decides for how long.
    """
    jobs = jobs or _usual_jobs(wanted)
    tasks = [(path, is_label, max_bytes, path in sampled) for path, is_label in wanted.items()]
    if jobs == 1:
        yield from (read_facts(*task) for task in tasks)
        return
    if threads:
        with ThreadPoolExecutor(jobs) as pool_of_threads:
            try:
                futures = as_completed([pool_of_threads.submit(read_facts, *task) for task in tasks])
                yield from (future.result() for future in futures)
            finally:
                pool_of_threads.shutdown(cancel_futures=True)
        return
    left = {task[0]: task for task in tasks}
    # a fork would copy the locks of the caller's threads
    with ProcessPoolExecutor(min(jobs, len(left) or 1), mp_context=get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(read_facts, *task) for task in tasks]):
                found = future.result()
                del left[found.path]
                yield found
        except BrokenProcessPool:
            pass  # one file ended a process, and with it all
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    while left:
        yield from _read_until_one_breaks(left)


def _read_until_one_breaks(left: dict[str, tuple[str, bool, int, bool]]) -> Iterator[ScanFacts]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for path, task in list(left.items()):
            del left[path]
            try:
                yield pool.submit(read_facts, *task).result()
            except BrokenProcessPool:
                told = "cannot be read: the process that read it was ended, perhaps for want of memory"
                yield ScanFacts(path, problem=Problem("unreadable", told))
                return


def _usual_jobs(paths: Iterable[str]) -> int:
    size = 0
    for path in paths:
        with suppress(OSError, ValueError):
            size += size_of(path)
    return min(len(os.sched_getaffinity(0)), _MOST_JOBS, 1 + size // _WORTH)
