from __future__ import annotations

import tempfile

import pytest

from monai_ssl.label.guard import check_image, check_names
from monai_ssl.utils.errors import UserError


@pytest.mark.parametrize("key", ["image", "id", "label", "tag", "label_tag", "model_filename", "session_id"])
@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/b", "a\\b", "..", ".", "a\x00"])
def test_names_are_no_paths(key, name):
    with pytest.raises(UserError, match=f"{key}: must be a name"):
        check_names({key: name})


def test_usual_names_pass():
    check_names({"image": "case..1", "tag": "final", "label": None, "other": "/a/b", "id": "1.2.840.113619"})


def test_an_image_is_a_study_or_came_with_the_request(tmp_path):
    check_image("study", {"study"})
    check_image(object(), set())
    with tempfile.NamedTemporaryFile(suffix=".nii.gz") as stream:
        check_image(stream.name, set())
    inside = tmp_path / "tmpabc.nii.gz"
    inside.touch()
    for image in ("other", "", "/etc/passwd", str(inside), f"{tempfile.gettempdir()}/secret.nii", "tmpabc", "tmp/../x"):
        with pytest.raises(UserError, match="there is no study"):
            check_image(image, {"study"})


def test_a_file_of_a_session_came_with_an_earlier_request(tmp_path):
    (tmp_path / "sessions" / "1").mkdir(parents=True)
    check_image(str(tmp_path / "sessions" / "1" / "a.nii.gz"), set(), str(tmp_path / "sessions"))
    for image in (tmp_path / "a.nii.gz", tmp_path / "sessions" / ".." / "a.nii.gz"):
        with pytest.raises(UserError, match="there is no study"):
            check_image(str(image), set(), str(tmp_path / "sessions"))
