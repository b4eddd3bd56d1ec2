from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from monai_ssl.data.check_facts import KINDS, Fault, Problem, ScanFacts


def test_a_fault_has_the_level_and_the_remedy_of_its_kind() -> None:
    fault = Fault("truncated", "is cut off", "training", "a", "images/a.nii.gz")
    assert (fault.level, Fault("constant", "is 0 everywhere").level) == ("error", "warning")
    assert fault.as_dict() == {
        "level": "error",
        "kind": "truncated",
        "text": "is cut off",
        "part": "training",
        "case": "a",
        "file": "images/a.nii.gz",
        "remedy": "Copy or export the file again from its source.",
    }


def test_every_kind_says_what_to_do() -> None:
    assert all(kind.remedy.endswith((".", "each.")) and kind.level in ("error", "warning") for kind in KINDS.values())


def test_a_problem_is_of_a_known_kind_and_travels_between_processes() -> None:
    facts = ScanFacts("a", 3, problem=Problem("empty", "is empty"))
    assert pickle.loads(pickle.dumps(facts)) == facts
    with pytest.raises(ValueError, match=r"`problem` must be of a kind of KINDS, got 'odd'"):
        ScanFacts("a", problem=Problem("odd", "is odd"))


def test_the_docs_tell_every_kind_with_its_level_and_remedy() -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (error|warning) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [(name, *kind) for name, kind in KINDS.items()]
