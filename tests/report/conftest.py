from __future__ import annotations

from pathlib import Path

import pytest

from monai_ssl.report.page import Written, write_report
from tests.report.pages import write_real_study


@pytest.fixture(scope="session")
def real_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study on scans, of which a page was written; read only."""
    return write_real_study(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def real_page(real_study: Path) -> Written:
    """Its page; read only."""
    return write_report(real_study, device="cpu")
