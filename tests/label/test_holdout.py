from __future__ import annotations

import json

import pytest

from monai_ssl.label.holdout import hold_out
from monai_ssl.utils.errors import UserError


def test_no_study_is_ever_validated_on_after_it_was_learned_from(tmp_path):
    """Labels come one by one, shares change, labels go: whatever a model may have seen is not for validation."""
    file, learned, studies = tmp_path / "parts.json", set(), []
    shares = [0.2, 0.5, 0.0, 0.3, 0.9, 0.2] * 4
    for number, share in enumerate(shares):
        studies.append(f"study_{number}")
        if number == 9:
            studies.remove("study_3")
        training, validation = hold_out(file, studies, share)
        assert sorted(training + validation) == sorted(studies), "every label counts once"
        assert not learned & set(validation)
        learned |= set(training)


def test_those_for_validation_stay_so_and_the_share_is_reached_with_new_ones(tmp_path):
    file = tmp_path / "parts.json"
    assert hold_out(file, ["a"], 0.5) == (["a"], [])
    assert hold_out(file, ["a", "b"], 0.5) == (["a"], ["b"])
    assert hold_out(file, ["a", "b", "c", "d"], 0.5) == (["a", "c"], ["b", "d"])
    assert hold_out(file, ["d", "c", "b", "a"], 0.25) == (["c", "a"], ["d", "b"])
    assert json.loads(file.read_text()) == {"learned": ["a", "c"], "validation": ["b", "d"]}


def test_without_a_share_all_are_learned_from(tmp_path):
    file = tmp_path / "parts.json"
    hold_out(file, ["a", "b"], 0.5)
    assert hold_out(file, ["a", "b"], 0.0) == (["a", "b"], [])
    assert hold_out(file, ["a", "b"], 0.5) == (["a", "b"], []), "both are known by now"


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_share_out_of_range(tmp_path, share):
    with pytest.raises(UserError, match="validation must be a share"):
        hold_out(tmp_path / "parts.json", ["a"], share)


@pytest.mark.parametrize("content", ["", "[]", '{"learned": []}'])
def test_a_broken_file_is_named_and_kept(tmp_path, content):
    file = tmp_path / "parts.json"
    file.write_text(content)
    with pytest.raises(UserError, match=r"parts.json: cannot be read; remove it"):
        hold_out(file, ["a"], 0.5)
    assert file.read_text() == content
