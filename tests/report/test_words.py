from __future__ import annotations

import pytest

from monai_ssl.report.words import figure_words, operating_words, outline_words, without_folders


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Error: /data/john doe/scan.nii.gz: broken", "Error: scan.nii.gz: broken"),
        ("/home/me/data/scan.nii.gz", "scan.nii.gz"),
        ("['/home/me/a.nii', '/home/me/b.nii']", "['a.nii', 'b.nii']"),
        ("(~/study/runs/2/console.txt)", "(console.txt)"),
        ("1/8 to 1/2, and/or ./imagesTr/c.nii.gz", "1/8 to 1/2, and/or ./imagesTr/c.nii.gz"),
        ("output=/mnt/x/y", "output=y"),
    ],
)
def test_of_a_path_the_last_name_is_left(text: str, left: str) -> None:
    assert without_folders(text) == left


def test_what_is_not_known_is_a_dash() -> None:
    assert figure_words(None) == "–"
    assert figure_words(0.12345, 4) == "0.1235"


def test_a_picture_of_a_scan_says_on_which_side_the_patient_lies() -> None:
    assert all("left of a picture is the patient's right" in words for words in (outline_words(), operating_words()))
