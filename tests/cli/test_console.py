from __future__ import annotations

import pytest

from tests.cli.helpers import monai_ssl


@pytest.mark.parametrize("word", ["spacing", "=1", "spacing=[1,", ""])
def test_what_is_no_setting_is_told(tmp_path, word):
    result = monai_ssl("init", "semi_segmentation", tmp_path / "mine", "--set", word)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: --set must be KEY=VALUE with a YAML value")
    result = monai_ssl("init", "semi_segmentation", tmp_path / "mine", "--set", "nothing=1")
    assert "no config of semi_segmentation has the key `nothing`" in result.stderr
    assert not (tmp_path / "mine").exists()
