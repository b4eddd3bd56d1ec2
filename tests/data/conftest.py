"""What tests of data lists share."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def write(tmp_path):
    """Writes a list into ``tmp_path`` and, unless told otherwise, the files of its labelled cases."""

    def write(data, files=(), name="dataset.json"):
        path = tmp_path / name
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        return path

    return write
