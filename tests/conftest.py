"""Options and fixtures that every test sees."""

from __future__ import annotations

import contextlib
import locale
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

DATA_VARIABLE = "MONAI_SSL_TEST_DATA"
DATA_FIXTURES = {"hippocampus"}
LOCALE = locale.setlocale(locale.LC_CTYPE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data",
        metavar="DIR",
        default=os.environ.get(DATA_VARIABLE) or None,
        help=f"folder of real data, holding hippocampus/ (default: the environment variable {DATA_VARIABLE})",
    )


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if DATA_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.data)


def data_folder(root: str | None, name: str, how: str) -> Path:
    """Return ``root/name``, or skip the test with a reason that says how to get the data."""
    remedy = f"{how}, and pass the folder that holds {name}/ with --data=DIR or {DATA_VARIABLE}=DIR"
    if root is None:
        pytest.skip(f"needs real data: {remedy}")
    folder = Path(root).expanduser().resolve() / name
    if not (folder / "dataset.json").is_file():
        pytest.skip(f"{folder} has no dataset.json: {remedy}")
    return folder


@pytest.fixture(scope="session")
def hippocampus(request: pytest.FixtureRequest) -> Path:
    """Folder of the Medical Segmentation Decathlon's Task04 (dataset.json, imagesTr/, labelsTr/)."""
    return data_folder(
        request.config.getoption("--data"),
        "hippocampus",
        "get Task04_Hippocampus of the Medical Segmentation Decathlon (medicaldecathlon.com), unpacked as hippocampus",
    )


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> Iterator[None]:
    """Seed every generator from the test's name: a failure returns, whatever ran before and in which process."""
    from monai.transforms import Randomizable

    seed = zlib.crc32(request.node.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    shared = Randomizable.R
    Randomizable.R = np.random.RandomState(seed)
    yield
    Randomizable.R = shared


@contextlib.contextmanager
def same_locale() -> Iterator[None]:
    """Fail where a library left the process in another locale: text files of the tests after it would be ASCII."""
    yield
    left = locale.setlocale(locale.LC_CTYPE)
    if left != LOCALE:
        locale.setlocale(locale.LC_CTYPE, LOCALE)
        pytest.fail(f"the process speaks {left} after it, and {LOCALE} before; see write_dicom in tests/data")


@pytest.fixture(autouse=True)
def locale_is_put_back() -> Iterator[None]:
    """No test changes how the next one reads a text file."""
    with same_locale():
        yield
