"""The fixtures do what the other tests lean on."""

from __future__ import annotations

import locale
import zlib
from pathlib import Path

import pytest
import torch

from tests.conftest import LOCALE, data_folder, same_locale


def test_one_thread() -> None:
    assert torch.get_num_threads() == 1


def test_seed_depends_on_the_test_alone(request: pytest.FixtureRequest) -> None:
    drawn = torch.rand(3)
    torch.manual_seed(zlib.crc32(request.node.nodeid.encode()))
    assert torch.equal(drawn, torch.rand(3))


def test_another_locale_is_told_and_put_back() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"the process speaks C after it"), same_locale():
        locale.setlocale(locale.LC_CTYPE, "C")
    assert locale.setlocale(locale.LC_CTYPE) == LOCALE


def test_absent_data_is_skipped_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"needs real data: fetch it, and pass .* --data=DIR"):
        data_folder(None, "scans", "fetch it")
    with pytest.raises(pytest.skip.Exception, match=r"scans has no dataset\.json: fetch it"):
        data_folder(str(tmp_path), "scans", "fetch it")


def test_data_is_found(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "dataset.json").write_text("{}")
    assert data_folder(str(tmp_path), "scans", "fetch it") == tmp_path / "scans"


def test_hippocampus_has_the_decathlon_layout(hippocampus: Path) -> None:
    assert {"dataset.json", "imagesTr", "labelsTr"} <= {entry.name for entry in hippocampus.iterdir()}
