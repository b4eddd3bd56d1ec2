from __future__ import annotations

import pytest

from tests.bundles.helpers import train, write_list


@pytest.fixture(scope="session")
def mri(tmp_path_factory):
    """Folder of a list of MRI-like cases; read only."""
    return write_list(tmp_path_factory.mktemp("mri") / "data").parent


@pytest.fixture(scope="session")
def trained(mri, tmp_path_factory):
    """Folder of a finished mean-teacher run on ``mri``; read only."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train("mean_teacher", dataset_dir=str(mri), output_dir=str(folder))
    return folder
