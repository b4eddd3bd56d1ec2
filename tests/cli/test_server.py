from __future__ import annotations

import re

import pytest

from tests.cli.helpers import monai_ssl


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--models", "segmentation,pathology"), "--models must be of segmentation, detection"),
        (("--models", ","), "--models must be of"),
        (("--modality", "PET"), "--modality must be CT or MRI"),
    ],
)
def test_label_checks_its_options_before_anything_starts(tmp_path, words, reason):
    result = monai_ssl("label", "--studies", tmp_path, *words)
    assert result.exit_code == 1
    assert re.fullmatch(rf"Error: [^\n]*{reason}[^\n]*\n", result.stderr)
    assert not list(tmp_path.iterdir())
