from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from monai_ssl.data.check_cohort import (
    far_scans,
    flipped_labels,
    missing_classes,
    patients_apart,
    robust_scores,
    same_scans,
)
from monai_ssl.data.check_facts import Problem, ScanFacts, Volume
from monai_ssl.data.check_list import Case
from monai_ssl.data.check_mirror import MirrorTest, Pair

PAIRS = [(a, b) for a in ("training", "unlabeled", "validation", "test") for b in ("training", "unlabeled", "test")]


def case(part: str, name: str, **more: Any) -> Case:
    return Case(part, name, f"{name}.nii", f"/data/{name}.nii", **more)


def facts(*names: str, digest: str = "", mean: float = 100.0, std: float = 20.0, **more: Any) -> dict[str, ScanFacts]:
    rows = tuple(map(tuple, np.diag([*more.pop("spacing", (1.0, 1.0, 1.0)), 1.0]).tolist()))
    found = {}
    for name in names:
        numbers = {"minimum": 0.0, "maximum": 200.0, "non_finite": 0, "values": {}, **more}
        found[f"/data/{name}.nii"] = ScanFacts(
            f"/data/{name}.nii", 9, Volume((4, 4, 4), rows, digest or name, mean=mean, std=std, **numbers)
        )
    return found


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_copies(one: str, other: str) -> None:
    cases = [case(one, "a"), case(other, "b"), case(other, "c")]
    found = [(f.kind, f.case) for f in same_scans(cases, {**facts("a", "b", digest="x"), **facts("c")})]
    leak = "unlabeled" in (one, other) and {one, other} & {"validation", "test"}
    told = "a" if leak and one == "unlabeled" else "b"  # the one to leave out
    assert found == [("duplicate" if one == other else "leak" if leak else "same_content", told)]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_file_listed_twice_is_told_once(one: str, other: str) -> None:
    found = [(f.kind, f.text) for f in same_scans([case(one, "a"), case(other, "a")], facts("a"))]
    leak = "unlabeled" in (one, other) and {one, other} & {"validation", "test"}
    kind = "duplicate" if one == other else "leak" if leak else "same_image"
    assert found == [(kind, f"is in `{other if kind == 'leak' and one == 'unlabeled' else one}` too (a.nii)")]


def test_blank_scans_and_unread_ones_are_no_copies() -> None:
    cases = [case("training", "a"), case("test", "b"), case("test", "c")]
    broken = {"/data/c.nii": ScanFacts("/data/c.nii", problem=Problem("empty", "is empty"))}
    assert not list(same_scans(cases, facts("a", "b", digest="x", maximum=0.0) | broken))


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_patients(one: str, other: str) -> None:
    found = list(patients_apart([case(one, "a", patient="p"), case(other, "b", patient="p"), case(other, "c")]))
    same_side = one == other or {one, other} == {"training", "unlabeled"}
    assert [(f.kind, f.case) for f in found] == ([] if same_side else [("same_patient", "b")])


def test_missing_classes() -> None:
    classes = {0: "background", 1: "liver", 2: "tumour"}
    cases = [case("training", "a", label_path="/data/x.nii"), case("validation", "b", label_path="/data/y.nii")]
    read = facts("a", "b") | facts("x", values={0.0: 9, 1.0: 3}) | facts("y", values={0.0: 9, 2.0: 3})
    (fault,) = missing_classes(cases, read, classes)
    assert (fault.kind, fault.part, fault.text) == ("missing_class", "training", "no label has class 2 (tumour)")
    read |= facts("x", values={1.0: 3, 2.0: 1})
    assert missing_classes(cases, read, classes) == []
    assert missing_classes(cases[1:], read, classes) == []


def test_far_scans_need_five() -> None:
    names = "abcdef"
    for count, expected in ((4, []), (5, [("far_intensity", "e")])):
        cases = [case("training", name) for name in names[:count]]
        read = facts(*names[:count]) | facts(names[count - 1], mean=9000.0)
        assert [(f.kind, f.case) for f in far_scans(cases, read)] == expected


def test_far_spacing_is_told_in_the_order_of_the_world() -> None:
    cases = [case("training", name) for name in "abcdef"]
    read = facts(*"abcde", spacing=(1.0, 1.0, 5.0))
    turned = facts("f")["/data/f.nii"].volume
    assert turned is not None
    rows = ((0.0, 0.0, 1.0, 0.0), (1.0, 0.0, 0.0, 0.0), (0.0, 5.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    same = Volume(turned.shape, rows, "f", 0.0, 200.0, 100.0, 20.0, 0, {})
    assert not list(far_scans(cases, read | {"/data/f.nii": ScanFacts("/data/f.nii", 9, same)}))
    (fault,) = far_scans(cases, read | facts("f", spacing=(1.0, 1.0, 1.0)))
    assert fault.text == "has a spacing of 1 x 1 x 1 mm; the median is 1 x 1 x 5 mm"


def mirror_tests(found: dict[str, MirrorTest]) -> tuple[list[Case], dict[Pair, MirrorTest]]:
    cases = [case("training", name, label=f"{name}_seg.nii", label_path=f"/data/{name}_seg.nii") for name in found]
    return cases, {(f"/data/{name}.nii", f"/data/{name}_seg.nii"): test for name, test in found.items()}


def flipped(found: dict[str, MirrorTest]) -> list[str]:
    return [fault.case for fault in flipped_labels(*mirror_tests(found))]


def usual_tests(count: int) -> dict[str, MirrorTest]:
    draw = np.random.default_rng(0)
    return {f"c{n}": MirrorTest(-0.1, 900, {1: 0.2 + draw.normal(0, 0.02), 2: -0.1}) for n in range(count)}


def test_a_label_that_fits_far_better_mirrored_is_told_alone_or_among_others() -> None:
    wrong = MirrorTest(0.31, 900, {1: -0.2})
    cases, tests = mirror_tests({"x": wrong})
    (fault,) = flipped_labels(cases, tests)
    assert (fault.kind, fault.level, fault.case, fault.file) == ("flipped_label", "warning", "x", "x_seg.nii")
    assert fault.text == "fits its image better mirrored left to right (by 0.31)"
    assert flipped({**usual_tests(3), "x": wrong, "y": wrong}) == ["x", "y"]
    assert flipped({f"x{n}": wrong for n in range(9)}) == [f"x{n}" for n in range(9)]
    assert list(flipped_labels([*cases, case("unlabeled", "x")], tests)) == [fault]
    assert not list(flipped_labels([case("training", "x")], tests))


@pytest.mark.parametrize(("faces", "least"), [(10_000, 0.055), (900, 0.09), (100, 0.19)])
def test_few_faces_take_a_greater_gain(faces: int, least: float) -> None:
    assert flipped({"x": MirrorTest(least + 0.001, faces, {1: 0.0})}) == ["x"]
    assert flipped({"x": MirrorTest(least - 0.001, faces, {1: 0.0})}) == []


def test_a_label_where_the_others_lie_mirrored_is_told_unless_its_image_is_against_it() -> None:
    usual = usual_tests(20)
    wrong = MirrorTest(0.01, 900, {1: -0.2, 2: 0.1})
    assert flipped(usual) == []
    (fault,) = flipped_labels(*mirror_tests({**usual, "x": wrong}))
    assert (fault.kind, fault.case) == ("flipped_label", "x")
    assert "lies where the labels of the other cases do when it is mirrored left to right" in fault.text
    assert flipped({**usual, "x": wrong._replace(gain=-0.03)}) == []
    assert flipped({**usual, "x": wrong._replace(places={1: 0.45, 2: -0.3})}) == []  # far, and mirrored farther
    assert flipped({**usual, "x": wrong._replace(places={5: -0.2})}) == []  # a class that no other has
    assert flipped({**usual_tests(3), "x": wrong}) == []  # too few to tell


def test_places_that_differ_anyway_tell_nothing() -> None:
    draw, alarms = np.random.default_rng(0), 0
    for _ in range(100):
        places = draw.uniform(-0.4, 0.4, 12)
        alarms += len(flipped({f"c{n}": MirrorTest(0.0, 900, {1: float(place)}) for n, place in enumerate(places)}))
        sides = draw.normal(0.2, 0.02, 12) * np.where(np.arange(12) < draw.integers(2, 11), -1, 1)  # left and right
        assert flipped({f"c{n}": MirrorTest(0.0, 900, {1: float(side)}) for n, side in enumerate(sides)}) == []
    assert alarms <= 4  # of 1200 labels that their images say nothing about


def test_false_alarms_are_rare() -> None:
    generator = np.random.default_rng(0)
    cases = [case("training", str(n)) for n in range(12)]
    alarms = 0
    for _ in range(100):
        read: dict[str, ScanFacts] = {}
        for one in cases:
            read |= facts(one.name, mean=generator.normal(100, 10), std=generator.normal(20, 2))
        alarms += any(far_scans(cases, read))
    assert alarms <= 4


def test_robust_scores() -> None:
    values = np.random.default_rng(0).normal(5, 3, 41)
    expected = abs(values - np.median(values)) / stats.median_abs_deviation(values, scale="normal")
    np.testing.assert_allclose(robust_scores(values, 1e-9), expected, rtol=1e-4)
    assert robust_scores(np.array([1.0, 1, 1, 1, 1.01]), 0.05).max() < 1
