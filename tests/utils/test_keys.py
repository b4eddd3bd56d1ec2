from __future__ import annotations

import json
from enum import Enum

import pytest

from monai_ssl.utils.keys import BatchKeys, ListParts, RunFiles


@pytest.mark.parametrize("names", [BatchKeys, ListParts, RunFiles])
def test_a_name_is_its_text(names: type[Enum]) -> None:
    for name in names:
        assert name == name.value
        assert f"{name}" == str(name) == name.value
        assert {name: 1}[name.value] == 1
        assert json.dumps({"name": name}) == f'{{"name": "{name.value}"}}'


def test_names_are_told_apart() -> None:
    for names in (BatchKeys, ListParts, RunFiles):
        assert len({name.value for name in names}) == len(names.__members__)


def test_what_the_design_promises() -> None:
    assert {*BatchKeys} == {"labeled", "unlabeled", "image", "label"}
    assert {*ListParts} == {"training", "unlabeled", "validation", "test"}
    assert {*RunFiles} >= {"resume.pt", "model.pt", "preprocessing.json", "run_manifest.json", "steps.csv", ".lock"}
