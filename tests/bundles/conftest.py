from __future__ import annotations

import gc
import re
import sys
import warnings

import pytest

from tests.bundles.helpers import (
    BUNDLE,
    DETECTION,
    FAST,
    FAST_DETECTION,
    detect,
    run_bundle,
    train,
    write_box_list,
    write_list,
)


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


@pytest.fixture(scope="session")
def chests(tmp_path_factory):
    """Folder of a list of chests with boxes; read only."""
    return write_box_list(tmp_path_factory.mktemp("chests") / "data").parent


@pytest.fixture(scope="session")
def detected(chests, tmp_path_factory):
    """Folder of a finished FocalMix run on ``chests``; read only."""
    folder = tmp_path_factory.mktemp("detected") / "run"
    detect("focalmix", dataset_dir=str(chests), output_dir=str(folder))
    return folder


@pytest.fixture
def mistake(capsys, tmp_path, mri, chests):
    """Runs configs and returns the one line that the process would end with."""

    def mistake(*configs, bundle=BUNDLE, **settings):
        data, fast = (chests, FAST_DETECTION) if bundle == DETECTION else (mri, FAST)
        run = {
            **(fast if "train.yaml" in configs else {}),
            "dataset_dir": str(data),
            "output_dir": str(tmp_path / "run"),
        }
        hooks = []
        try:
            run_bundle(*configs, bundle=bundle, at_end=lambda: hooks.append(sys.excepthook), **{**run, **settings})
        except SystemExit as end:
            lines = [str(end.code)]
        except Exception:
            capsys.readouterr()
            hooks[0](*sys.exc_info())
            lines = capsys.readouterr().err.splitlines()
        else:
            raise AssertionError("the run did not fail")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()  # files that the end of the process would close
        assert len(lines) == 1
        assert re.fullmatch("Error: .+", lines[0])
        return lines[0]

    return mistake
