"""Lists and headers changed at random: whatever they say, a mistake is one line, and nothing crashes or hangs."""

from __future__ import annotations

import copy
import gzip
import json
import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.transforms import Compose, LoadImaged

from monai_ssl.data import ScanDataset, ScanReader, channel_count, check_leaks, class_names, load_cases
from monai_ssl.data.cases import load_images
from monai_ssl.data.check_facts import KINDS
from monai_ssl.data.check_run import check_data
from monai_ssl.data.check_scan import read_facts
from monai_ssl.data.datalist import read_datalist
from monai_ssl.data.split import make_split
from monai_ssl.utils.errors import UserError
from tests.data.check_files import make_case, make_data, write_list

HOSTILE: list[Any] = [
    *(None, True, -1, 3, 10**40, 1e308, float("nan"), float("-inf"), "", "\0", "a\0b", "\ud800", "é", "a" * 5000),
    *([], {}, [[]], [None], {"image": 1}, {"": ""}, ".", "/", "/dev/null", "..", "images", "9" * 4000, "²", "٣"),
]
OFTEN = pytest.mark.parametrize("rounds", [60, pytest.param(4000, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])


def lists(folder: Path) -> list[dict[str, Any]]:
    data, _ = make_data(folder)
    boxed = {"image": data["training"][0]["image"], "box": [[0.0, 0, 0, 1, 1, 1]], "label": [0], "patient": "a"}
    nnunet = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    named = {"a": {"images": [data["training"][0]["image"]], "label": data["training"][0]["label"]}}
    return [data, {"labels": {"0": "nodule"}, "training": [boxed]}, {**nnunet, "numTraining": 1, "dataset": named}]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every entry of a JSON value, as its container and key."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def changed(data: Any, chance: random.Random) -> bytes:
    """A list of which entries are others, named otherwise, gone, or of which bytes are."""
    data = copy.deepcopy(data)
    for _ in range(chance.choice([0, 1, 1, 2, 5])):
        if not (found := places(data)):
            break
        container, key = chance.choice(found)
        action = chance.random()
        if action < 0.7:
            container[key] = copy.deepcopy(chance.choice(HOSTILE))
        elif action < 0.85 and isinstance(container, dict):
            container[str(chance.choice(HOSTILE))] = container.pop(key)
        else:
            del container[key]
    return mutated(json.dumps(data).encode(), chance) if chance.random() < 0.3 else json.dumps(data).encode()


def mutated(content: bytes, chance: random.Random, most: int = 8) -> bytes:
    content = bytearray(content)  # type: ignore[assignment]
    for _ in range(chance.randint(1, most)):
        if not content:
            break
        place = chance.randrange(len(content))
        action = chance.random()
        if action < 0.6:
            content[place] = chance.randrange(256)  # type: ignore[index]
        elif action < 0.8:
            del content[place : place + chance.randint(1, 40)]  # type: ignore[attr-defined]
        else:
            content[place:place] = chance.randbytes(chance.randint(1, 40))  # type: ignore[index]
    return bytes(content)


def is_refused_well(call: Callable[[], Any], what: object) -> bool:
    begin = time.monotonic()
    try:
        call()
    except UserError:
        return True
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} instead of a UserError: {error} at {what!r}") from error
    finally:
        assert time.monotonic() - begin < 10, what
    return False


@OFTEN
def test_lists(tmp_path: Path, rounds: int) -> None:
    chance, originals = random.Random(1), lists(tmp_path)
    path, refused = tmp_path / "list.json", 0
    for number in range(rounds):
        content = changed(originals[number % len(originals)], chance)
        path.write_bytes(content)
        calls: list[Callable[[], Any]] = [
            lambda: read_datalist(path, class_labels=True, boxes=True),
            lambda: [load_cases(path, part, boxes=True) for part in ("training", "unlabeled", "validation", "test")],
            lambda: load_images(path),
            lambda: check_leaks(path),
            lambda: class_names(path),
            lambda: channel_count(path),
            lambda: make_split(read_datalist(path), labels=2, test=1),
        ]
        refused += sum(is_refused_well(call, content) for call in calls)
        result = check_data(path, jobs=1)
        assert all(fault.kind in KINDS and fault.text for fault in result.faults)
    assert rounds < refused < 7 * rounds


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 100_000, '{"training": [], "n": ' + "1" * 5000 + "}", "{}x"])
def test_what_json_itself_cannot_take(tmp_path: Path, text: str) -> None:
    path = write_list(tmp_path, {})
    path.write_text(text)
    for call in (read_datalist, check_leaks, load_images, channel_count):
        assert is_refused_well(lambda call=call: call(path), text[:20])  # type: ignore[misc]
    assert [fault.kind for fault in check_data(path).faults] == ["list"]


@OFTEN
def test_headers_and_streams(tmp_path: Path, rounds: int) -> None:
    chance = random.Random(2)
    case = make_case(tmp_path, "a", 1)
    file = case.path("image")
    whole = gzip.decompress(file.read_bytes())
    load = Compose([LoadImaged(keys="image", reader=ScanReader, ensure_channel_first=True)])
    outcomes = set()
    for number in range(rounds):
        if number % 3:
            head = bytearray(whole[:352])
            for _ in range(chance.choice([1, 2, 4, 16, 300])):
                head[chance.randrange(352)] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])
            file.write_bytes(gzip.compress(bytes(head) + whole[352:], 1))
        else:
            file.write_bytes(mutated(gzip.compress(whole, 1), chance))
        begin = time.monotonic()
        facts = read_facts(str(file), bool(number % 2), 10**8)
        assert (facts.volume is None) == (facts.problem is not None)
        assert time.monotonic() - begin < 10
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, on numbers that are none
            dataset = ScanDataset([{"image": str(file)}], load, channels=1)
            told = is_refused_well(lambda dataset=dataset: dataset[0], file.read_bytes()[:400])  # type: ignore[misc]
        outcomes.add((facts.problem is None, told))
    assert {(True, False), (False, True)} <= outcomes
