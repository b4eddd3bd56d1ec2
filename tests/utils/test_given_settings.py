from __future__ import annotations

from typing import Any

import pytest

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.given_settings import check_given, entry

KNOWN: dict[str, Any] = {
    "seed": 0,
    "rate": 0.5,
    "amp": False,
    "spacing": [1.0, 1.0, 1.5],
    "steps": "$2 * 3",
    "weights": None,
    "exclude": [],
    "names": ["a", "b"],
    "intensity_range": [0.0, 1.0],
    "class_names": "$read(@weights)",
    "loss": {"_target_": "DiceLoss", "alpha": 1},
    "network_def": {"dropout": 0.1, "channels": [8, 16], "blocks": [{"depth": 2}]},
}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("seed", "abc", r"^seed takes a number, such as 0, got 'abc'\.$"),
        ("rate", "null", "rate takes a number, such as 0.5, got 'null'"),
        ("rate", "", "rate takes a number"),
        ("spacing", "abc", r"spacing takes numbers, such as \[1.0, 1.0, 1.5\], got 'abc'"),
        ("spacing", [1, 1, "x"], r"spacing takes numbers, such as .*, got \[1, 1, 'x'\]"),
        ("spacing", (1, "x"), r"got \(1, 'x'\)"),
        ("network_def::dropout", "low", "network_def#dropout takes a number, such as 0.1, got 'low'"),
        ("network_def::channels::1", "many", "network_def#channels#1 takes a number, such as 16, got 'many'"),
        ("network_def::blocks::0::depth", "deep", "network_def#blocks#0#depth takes a number, such as 2"),
        ("class_names", "nodule", r"^class_names takes a list, as \"\['nodule'\]\", got 'nodule'\.$"),
        ("class_names", ["nodule", "node", "nodule"], "a name for each class, got one for several: nodule, node, n"),
        ("intensity_range", [400, -1000], r"takes the lower end first and a higher one, got \[400, -1000\]"),
        ("intensity_range", [1.0, 1], "takes the lower end first and a higher one"),
        ("loss", "abc", r"^loss is a component, DiceLoss, got 'abc'; give its arguments \(--loss#NAME VALUE\)"),
        ("loss", 3, "loss is a component, DiceLoss, got 3"),
        ("sed", 1, r"^unknown setting 'sed'; did you mean 'seed'\?$"),
        ("+sed", 1, "unknown setting 'sed'; did you mean"),
        ("names_", 1, "unknown setting 'names_'; did you mean 'names'"),
        ("def", 1, "unknown setting 'def'; did you mean 'network_def'"),
        ("zzz::seed", 1, r"unknown setting 'zzz'\.$"),
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, value: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_given({name: value}, KNOWN)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 3),
        ("seed", "3"),
        ("rate", "1e-3"),
        ("rate", 1),
        ("rate", "$1 / 3"),
        ("rate", "@seed"),
        ("rate", "%other.yaml::rate"),
        ("amp", "bfloat16"),
        ("loss", "@seed"),
        ("loss", None),
        ("loss", {"_target_": "FocalLoss"}),
        ("loss::alpha", 2),
        ("loss::_target_", "FocalLoss"),
        ("spacing", 1),
        ("spacing", [1, "@seed", None]),
        ("spacing", "$[1, 1, 1]"),
        ("steps", "abc"),
        ("weights", "model.pt"),
        ("exclude", "case_1"),
        ("names", "abc"),
        ("class_names", ["nodule"]),
        ("class_names", "$['nodule']"),
        ("intensity_range", [-1000, 400]),
        ("intensity_range", "$[0, 1]"),
        ("network_def", "abc"),
        ("network_def::new", "abc"),
        ("network_def::blocks::9::depth", "abc"),
        ("+network_def", {"dropout": 0.2}),
    ],
)
def test_what_may_be_meant_passes(name: str, value: Any) -> None:
    check_given({name: value}, KNOWN)


def test_an_entry_is_found_by_its_path() -> None:
    assert entry(KNOWN, ["network_def", "blocks", "0", "depth"]) == 2
    assert entry(KNOWN, []) is KNOWN
    for path in (["zzz"], ["seed", "x"], ["spacing", "9"], ["spacing", "x"]):
        assert entry(KNOWN, path) is None
