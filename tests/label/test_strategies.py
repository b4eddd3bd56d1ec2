"""With MONAI Label's own store of studies."""

from __future__ import annotations

import importlib.util
import json
import shutil

import pytest

from monai_ssl.label.suggestions import Suggestions

pytestmark = [
    pytest.mark.label,
    pytest.mark.skipif(
        importlib.util.find_spec("monailabel") is None,
        reason="needs MONAI Label: make label-env, then make test-label",
    ),
]


@pytest.fixture
def store(tmp_path):
    from monailabel.datastore.local import LocalDatastore

    (tmp_path / "studies").mkdir()
    for name in "abcd":
        (tmp_path / "studies" / f"{name}.nii.gz").write_bytes(name.encode())
    return LocalDatastore(str(tmp_path / "studies"), extensions=["*.nii.gz"], auto_reload=False)


@pytest.fixture
def make(tmp_path):
    from monai_ssl.label.strategies import SuggestionStrategy

    suggestions = Suggestions(tmp_path / "s", [], tmp_path, dict, bool)
    return lambda name: SuggestionStrategy(name, suggestions)


def write(tmp_path, *order):
    paths = [str(tmp_path / "studies" / f"{name}.nii.gz") for name in order]
    scans = [{"case": path, "uncertainty": 1.0 / (row + 2), "distance": float(row)} for row, path in enumerate(paths)]
    (tmp_path / "s").mkdir(exist_ok=True)
    content = {"strategy": "uncertainty_coverage", "suggested": paths, "scans": scans}
    (tmp_path / "s" / "suggestions.json").write_text(json.dumps(content))


def test_the_ranking_decides(store, make, tmp_path):
    write(tmp_path, "c", "a", "d", "b")
    assert make("uncertainty_coverage")({}, store) == {"id": "c", "uncertainty": 0.5, "distance": 0.0}
    assert make("uncertainty")({}, store)["id"] == "c"
    assert make("coverage")({}, store)["id"] == "b"


def test_one_that_has_a_label_by_now_is_passed_over(store, make, tmp_path):
    write(tmp_path, "c", "a", "d", "b")
    label = tmp_path / "label.nii.gz"
    shutil.copy(tmp_path / "studies" / "c.nii.gz", label)
    store.save_label("c", str(label), "final", {})
    assert make("uncertainty")({}, store)["id"] == "a"


def test_one_that_was_given_comes_after_the_others_but_comes_again(store, make, tmp_path):
    write(tmp_path, "c", "a", "d", "b")
    given = []
    for second in range(6):
        sample = make("uncertainty")({}, store)
        given.append(sample["id"])
        store.update_image_info(sample["id"], {"strategy": {"uncertainty": {"ts": 100 + second}}})
    assert given == ["c", "a", "d", "b", "c", "a"]
    assert make("coverage")({}, store)["id"] == "b", "another strategy has not given it"


def test_without_a_ranking_by_name_with_a_note(store, make, tmp_path):
    sample = make("uncertainty_coverage")({}, store)
    assert sample == {"id": "a", "note": "no model has ranked the studies yet: they come by name"}
    write(tmp_path, "c")
    assert make("uncertainty")({}, store)["id"] == "c", "what the ranking knows goes first"


def test_plain_strategies(store, make):
    assert make("first")({}, store) == {"id": "a"}
    assert make("random")({}, store)["id"] in "abcd"


def test_none_where_all_have_labels(store, make, tmp_path):
    for name in "abcd":
        store.save_label(name, str(tmp_path / "studies" / f"{name}.nii.gz"), "final", {})
    assert make("uncertainty_coverage")({}, store) is None
