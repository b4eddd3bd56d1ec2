from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.transforms import (
    Compose,
    ConcatItemsd,
    Lambdad,
    LoadImaged,
    RandAffined,
    RandGaussianNoised,
    RandSpatialCropd,
    RandSpatialCropSamplesd,
)
from torch.utils.data import get_worker_info

from monai_ssl.data.scans import ScanDataset
from monai_ssl.data.two_stream import TwoStreamLoader
from monai_ssl.utils.errors import UserError, find_user_error
from tests.helpers import same


def numbers(count: int) -> list[dict[str, Any]]:
    return [{"image": index, "name": f"case {index}"} for index in range(count)]


def to_volume(index: int) -> torch.Tensor:
    return torch.full((1, 5, 5, 5), float(index)) + torch.arange(125.0).view(1, 5, 5, 5) / 1000


def augmented() -> Compose:
    return Compose(
        [
            Lambdad("image", to_volume),
            RandSpatialCropd("image", (3, 3, 3), random_size=False),
            RandGaussianNoised("image", prob=0.5, std=0.1),
            RandAffined("image", prob=0.5, rotate_range=0.5, padding_mode="border"),
        ]
    )


def loader(labeled: int = 5, unlabeled: int = 7, cached: bool = False, **arguments: Any) -> TwoStreamLoader:
    def dataset(count: int) -> Dataset:
        if cached:
            return ScanDataset(numbers(count), augmented(), cache_rate=1.0)
        return Dataset(numbers(count), augmented())

    return TwoStreamLoader(dataset(labeled), dataset(unlabeled), **arguments)


def take(source: TwoStreamLoader, count: int, start: int = 0) -> list[dict[str, Any]]:
    source.start_at(start)
    batches = list(itertools.islice(iter(source), count))
    for batch in batches:
        for stream in batch.values():
            stream["image"] = stream["image"].as_tensor()  # the trace of applied transforms holds object ids
    return batches


def plain(batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{s: {k: entries[k] for k in ("image", "name", "case")} for s, entries in b.items()} for b in batches]


@pytest.mark.parametrize("sizes", [(1, 3), (2, 2), (5, 4), (8, 1)])
def test_every_case_comes_once_in_every_pass(sizes: tuple[int, int]) -> None:
    batches = take(loader(labeled_batch_size=sizes[0], unlabeled_batch_size=sizes[1]), 21)
    for stream, size, count in (("labeled", sizes[0], 5), ("unlabeled", sizes[1], 7)):
        assert all(len(batch[stream]["case"]) == size == len(batch[stream]["image"]) for batch in batches)
        drawn = [case for batch in batches for case in batch[stream]["case"]]
        assert drawn == [str(scan) for batch in batches for scan in batch[stream]["scan"].tolist()]
        passes = [drawn[start : start + count] for start in range(0, len(drawn) - count + 1, count)]
        assert len(passes) >= 3
        assert all(Counter(each) == Counter(map(str, range(count))) for each in passes)
        assert len(set(map(tuple, passes))) > 1  # each in another order


def test_a_case_is_augmented_anew_in_every_pass() -> None:
    batches = take(loader(labeled=1, labeled_batch_size=1, unlabeled_batch_size=0), 12)
    images = [batch["labeled"]["image"] for batch in batches]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(images, 2))


@pytest.fixture(scope="module")
def reference() -> list[dict[str, Any]]:
    return plain(take(loader(seed=3), 16))


@pytest.mark.parametrize(("workers", "cached"), [(0, True), (2, False), (2, True)])
def test_workers_and_cache_change_nothing(workers: int, cached: bool, reference: list[dict[str, Any]]) -> None:
    assert same(plain(take(loader(seed=3, num_workers=workers, cached=cached), 16)), reference)


@pytest.mark.parametrize("workers", [0, 2])
def test_starting_later_is_going_on(workers: int, reference: list[dict[str, Any]]) -> None:
    source = loader(seed=3, num_workers=workers)
    for start in torch.randint(1, 15, (4 if workers == 0 else 1,)).tolist():
        assert same(plain(take(source, 16 - start, start)), reference[start:]), start


def test_an_iterator_does_not_depend_on_the_one_before_or_on_other_draws(reference: list[dict[str, Any]]) -> None:
    source = loader(seed=3)
    torch.rand(5)
    np.random.rand(5)
    assert same(plain(take(source, 7)), reference[:7])
    state = torch.get_rng_state()
    assert same(plain(take(source, 16)), reference)
    assert torch.equal(torch.get_rng_state(), state)  # and draws nothing that dropout would have drawn


def test_another_seed_is_another_order_and_augmentation(reference: list[dict[str, Any]]) -> None:
    other = plain(take(loader(seed=4), 16))
    for stream in ("labeled", "unlabeled"):
        orders = [[case for batch in each for case in batch[stream]["case"]] for each in (other, reference)]
        assert orders[0] != orders[1]
    single = [take(loader(1, 1, seed=seed), 1)[0]["labeled"]["image"] for seed in (3, 4)]
    assert not torch.equal(*single)


def test_equal_data_sets_are_drawn_apart() -> None:
    batches = take(loader(6, 6), 12)
    orders = [[case for batch in batches for case in batch[stream]["case"]] for stream in ("labeled", "unlabeled")]
    assert orders[0] != orders[1]


def test_a_stream_does_not_depend_on_the_other() -> None:
    alone = take(loader(unlabeled_batch_size=0), 6)
    both = take(loader(unlabeled=3, unlabeled_batch_size=4), 6)
    assert all(list(batch) == ["labeled"] for batch in alone)
    assert same([batch["labeled"]["image"] for batch in both], [batch["labeled"]["image"] for batch in alone])


def test_patches_of_one_case_count_as_several() -> None:
    transform = Compose(
        [Lambdad("image", to_volume), RandSpatialCropSamplesd("image", (3, 3, 3), 2, random_size=False)]
    )
    source = TwoStreamLoader(Dataset(numbers(4), transform), labeled_batch_size=2, unlabeled_batch_size=0)
    batch = next(iter(source))
    assert batch["labeled"]["image"].shape == (4, 1, 3, 3, 3)
    cases = batch["labeled"]["case"]
    assert (cases[0], cases[2]) == (cases[1], cases[3])


class Untouchable(Dataset):
    """Fails at a touch."""

    def __init__(self) -> None:
        pass

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} was touched")

    def __len__(self) -> int:
        raise AssertionError("its length was asked for")

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("it was read")


def test_a_stream_of_size_zero_is_never_touched() -> None:
    first = TwoStreamLoader(Dataset(numbers(3), augmented()), Untouchable(), 2, 0)
    second = TwoStreamLoader(Untouchable(), Dataset(numbers(3), augmented()), 0, 2)
    assert [list(next(iter(source))) for source in (first, second)] == [["labeled"], ["unlabeled"]]


def test_a_stream_without_cases_is_refused() -> None:
    with pytest.raises(UserError, match=r"there is no labeled case to train on\. .* labeled_batch_size to 0"):
        loader(labeled=0)
    for empty in (None, Dataset([], augmented())):
        with pytest.raises(UserError, match=r"there is no unlabeled case .* set unlabeled_batch_size to 0"):
            TwoStreamLoader(Dataset(numbers(3), augmented()), empty)


@pytest.mark.parametrize("sizes", [(0, 0), (-1, 2), (2, -1)])
def test_impossible_batch_sizes_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"batch sizes must be 0 or more and not both 0, got \{'labeled': "):
        loader(labeled_batch_size=sizes[0], unlabeled_batch_size=sizes[1])


def scans(folder: Path, count: int = 3) -> list[dict[str, str]]:
    for index in range(count):
        volume = np.random.default_rng(index).random((6, 6, 6), dtype=np.float32)
        nib.save(nib.Nifti1Image(volume, np.eye(4)), folder / f"case_{index}.nii.gz")
    return [{"image": str(folder / f"case_{index}.nii.gz")} for index in range(count)]


LOADING = Compose(
    [LoadImaged("image", ensure_channel_first=True), RandSpatialCropd("image", (4, 4, 4), random_size=False)]
)


@pytest.mark.parametrize("damage", ["missing", "cut", "text"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_cannot_be_read_is_named(damage: str, workers: int, tmp_path: Path) -> None:
    cases = scans(tmp_path)
    broken = tmp_path / "case_1.nii.gz"
    whole = broken.read_bytes()
    broken.write_bytes({"missing": b"", "cut": whole[: len(whole) // 2], "text": b"no scan\n" * 50}[damage])
    if damage == "missing":
        broken.unlink()
    source = TwoStreamLoader(ScanDataset(cases, LOADING), None, 1, 0, num_workers=workers)
    with pytest.raises(UserError) as caught:
        list(itertools.islice(iter(source), 3))
    said = str(find_user_error(caught.value))
    assert said.startswith(f"{broken}: cannot be read and prepared (")
    assert "\n" not in said


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_transform_that_fails_for_one_scan_is_named_with_its_case_and_file(tmp_path: Path, num_workers: int) -> None:
    cases = scans(tmp_path)
    other = tmp_path / "other.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), np.eye(4)), other)
    labeled = [{**case, "label": case["image"]} for case in cases]
    labeled[1]["label"] = str(other)
    names = ["image", "label"]
    transform = Compose([LoadImaged(names, ensure_channel_first=True), ConcatItemsd(names, name="both")])
    source = TwoStreamLoader(ScanDataset(labeled, transform), None, len(labeled), 0, num_workers=num_workers)
    with pytest.raises(UserError) as caught:
        next(iter(source))
    line = str(find_user_error(caught.value))
    told = r"ConcatItemsd: RuntimeError: Sizes of tensors must match .*"
    files = f"{re.escape(cases[1]['image'])} with {re.escape(str(other))}"
    assert re.fullmatch(
        rf"{files}: cannot be read and prepared \({told}\)\. Repair the file or leave the case out\.", line
    )


def test_a_mistake_found_by_a_transform_is_told_as_it_is() -> None:
    def refuse(value: Any) -> Any:
        raise UserError("case 3: has no label.")

    source = TwoStreamLoader(Dataset(numbers(1), Lambdad("image", refuse)), None, 1, 0)
    with pytest.raises(RuntimeError, match="applying transform") as caught:
        next(iter(source))
    assert str(find_user_error(caught.value)) == "case 3: has no label."


def test_metadata_and_labels_of_real_files_survive(tmp_path: Path) -> None:
    cases = [{**case, "label": case["image"]} for case in scans(tmp_path)]
    crop = RandSpatialCropd(["image", "label"], (4, 4, 4), random_size=False)
    transform = Compose([LoadImaged(["image", "label"], ensure_channel_first=True), crop])
    batch = next(iter(TwoStreamLoader(Dataset(cases, transform), labeled_batch_size=2, unlabeled_batch_size=0)))
    assert torch.equal(batch["labeled"]["image"].as_tensor(), batch["labeled"]["label"].as_tensor())
    assert batch["labeled"]["image"].shape == (2, 1, 4, 4, 4)
    assert all(case in {c["image"] for c in cases} for case in batch["labeled"]["case"])


def test_processes_share_the_batches_of_one() -> None:
    whole = plain(take(loader(labeled_batch_size=2, unlabeled_batch_size=4), 6, start=1))
    for rank in (0, 1):
        part = plain(take(loader(labeled_batch_size=1, unlabeled_batch_size=2, rank=rank, processes=2), 6, start=1))
        for ours, both in zip(part, whole, strict=True):
            for stream, size in (("labeled", 1), ("unlabeled", 2)):
                places = slice(rank * size, (rank + 1) * size)
                assert ours[stream]["case"] == both[stream]["case"][places]
                assert torch.equal(ours[stream]["image"], both[stream]["image"][places])
    with pytest.raises(ValueError, match="`rank` must be in 0 to 1, got 2"):
        loader(rank=2, processes=2)


def test_workers_leave_signals_of_others_to_the_trainer_and_obey_it() -> None:
    """A loader that is still held when Python ends is terminated by it, and must not be waited for."""
    others = multiprocessing.active_children()
    batches = iter(loader(seed=3, num_workers=2))
    first = next(batches)
    workers = [child for child in multiprocessing.active_children() if child not in others]
    assert len(workers) == 2
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        for worker in workers:
            subprocess.run(["kill", f"-{int(number)}", str(worker.pid)], check=True)  # not by this process
    later = list(itertools.islice(batches, 15))
    assert [batch["labeled"]["case"] for batch in [first, *later]] == [
        batch["labeled"]["case"] for batch in take(loader(seed=3), 16)
    ]
    assert all(worker.is_alive() for worker in workers)
    for worker in workers:
        worker.terminate()
        worker.join(10)
        assert worker.exitcode == 0


KILLED = """
import multiprocessing, os, signal, sys
from tests.data.test_two_stream import loader
multiprocessing.set_start_method(sys.argv[1])
multiprocessing.set_forkserver_preload(["tests.data.test_two_stream"])
batches = iter(loader(seed=3, num_workers=2))
next(batches)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("method", "end"), [("fork", "killed"), ("forkserver", "killed"), ("forkserver", "by itself")])
def test_no_worker_outlives_its_run(method: str, end: str) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, method, end], stdout=subprocess.PIPE, text=True, timeout=300)
    assert run.returncode == (-signal.SIGKILL if end == "killed" else 0)
    workers = [Path(f"/proc/{number}") for number in run.stdout.split()]
    assert len(workers) == 2
    last = time.monotonic() + 20
    while any(worker.exists() for worker in workers):
        assert time.monotonic() < last
        time.sleep(0.1)


def killed_at(index: int) -> torch.Tensor:
    if index == 3 and get_worker_info() is not None:
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does where memory is short
    return to_volume(index)


def test_a_worker_that_is_killed_names_the_scan_that_it_was_at() -> None:
    cases = [{"image": index, "name": f"case {index}"} for index in range(5)]
    source = TwoStreamLoader(Dataset(cases, Compose([Lambdad("image", killed_at)])), None, 1, 0, num_workers=2)
    with pytest.raises(RuntimeError, match="DataLoader worker") as caught:
        take(source, 10)
    told = source.explain(caught.value)
    how = "(is killed by signal: Killed|exited unexpectedly)"  # whichever torch sees first
    assert re.match(rf"3: the process that read it {how}, most often for lack of memory\. Lower num_workers", str(told))
    assert source.explain(RuntimeError("something else")) is None
