from __future__ import annotations

import copy
import json
import subprocess
import sys
from fractions import Fraction
from math import floor

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from monai_ssl.data.cases import load_cases
from monai_ssl.data.datalist import read_datalist
from monai_ssl.data.leaks import check_leaks
from monai_ssl.data.split import make_split, write_split
from monai_ssl.utils.errors import UserError

PARTS = ("training", "unlabeled", "validation", "test")


def entry(name, **more):
    return {"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz", **more}


def roster(n):
    return {"training": [entry(f"case{i:03d}") for i in range(n)]}


def images(split, part):
    return [case["image"] for case in split[part]]


@st.composite
def rosters(draw):
    """Labelled cases of patients with one to four scans, and further unlabelled scans of them and of others."""
    scans = draw(st.lists(st.sampled_from([1, 1, 1, 2, 3]), min_size=8, max_size=15))
    training = [entry(f"p{p}_{s}", patient=f"p{p}") for p, n in enumerate(scans) for s in range(n)]
    owners = draw(st.lists(st.integers(0, len(scans) + 3), max_size=6))
    unlabeled = [{"image": f"more/{i}.nii.gz", "patient": f"p{p}"} for i, p in enumerate(owners)]
    return {"training": draw(st.permutations(training)), "unlabeled": unlabeled}


def try_split(data, **choices):
    try:
        return make_split(data, **choices)
    except UserError:
        assume(False)


few = st.sampled_from([0, 1, 2, 3])


@given(rosters(), st.integers(1, 9), few, few, st.integers(0, 99))
@settings(max_examples=300)
def test_every_labelled_case_is_used_once_and_no_patient_is_on_two_sides(data, labels, validation, test, seed):
    check_roster(data, labels, validation, test, seed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@given(rosters(), st.integers(1, 9), few, few, st.integers(0, 99))
@settings(max_examples=10_000, deadline=None)
def test_so_it_is_with_ten_thousand_rosters(data, labels, validation, test, seed):
    check_roster(data, labels, validation, test, seed)


def check_roster(data, labels, validation, test, seed):
    before = copy.deepcopy(data)
    split = try_split(data, labels=labels, validation=validation, test=test, seed=seed)
    assert data == before, "the input must not change"
    everything = [image for part in PARTS for image in images(split, part)]
    assert len(everything) == len(set(everything))
    pool = {case["image"] for case in data["training"]}
    assert {image for image in everything if image.startswith("images/")} == pool
    patients = {part: {case["patient"] for case in split[part]} for part in PARTS}
    learning = patients["training"] | patients["unlabeled"]
    assert not learning & patients["test"]
    assert not learning & patients["validation"]
    assert not patients["validation"] & patients["test"]
    of = {case["image"]: case["patient"] for case in data["training"]}
    labeled = {case["patient"] for case in split["training"]}
    assert not labeled & {of[i] for i in images(split, "unlabeled") if i in of}, "a patient of the pool was torn"
    held = patients["validation"] | patients["test"]
    kept = {case["image"] for case in data["unlabeled"] if case["patient"] not in held}
    assert {image for image in everything if image.startswith("more/")} == kept
    for case in split["unlabeled"]:
        assert set(case) == {"image", "patient"}
    assert split["split"]["counts"] == {part: len(split[part]) for part in PARTS}
    assert split["split"]["patients"] == {part: len(patients[part]) for part in PARTS}
    for part, asked in split["split"]["asked"].items():
        assert len(split[part]) <= asked
        assert bool(len(split[part]) < asked) == any(f"`{part}`: " in m for m in split["split"]["messages"])


@given(rosters(), st.integers(2, 6), st.integers(2, 6), few, few, st.integers(0, 99))
def test_budgets_are_nested_and_leave_validation_and_test_alone(data, one, other, validation, test, seed):
    rest = {"validation": validation, "test": test, "seed": seed}
    small, large = (try_split(data, labels=labels, **rest) for labels in sorted((one, other)))
    assert set(images(small, "training")) <= set(images(large, "training"))
    assert (small["validation"], small["test"]) == (large["validation"], large["test"])


@given(rosters(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), few, st.integers(0, 99))
def test_the_number_of_validation_cases_changes_neither_test_nor_the_budget(data, labels, one, other, test, seed):
    a, b = (try_split(data, labels=labels, validation=v, test=test, seed=seed) for v in (one, other))
    assert a["test"] == b["test"]
    if a["split"]["counts"]["training"] == b["split"]["counts"]["training"]:
        assert a["training"] == b["training"]


@given(rosters(), st.randoms(use_true_random=False), st.integers(1, 12), few, few)
def test_the_order_of_the_list_does_not_matter(data, shuffler, labels, validation, test):
    choices = {"labels": labels, "validation": validation, "test": test, "seed": 1}
    expected = try_split(data, **choices)
    shuffled = {part: list(entries) for part, entries in data.items()}
    for entries in shuffled.values():
        shuffler.shuffle(entries)
    assert json.dumps(make_split(shuffled, **choices)) == json.dumps(expected)


@given(st.integers(1, 60), st.integers(1, 10000), few, few)
def test_a_percentage_is_of_what_validation_and_test_leave(n, hundredths, validation, test):
    assume(validation + test < n)
    left = n - validation - test
    split = make_split(roster(n), labels=f"{hundredths / 100:.2f}%", validation=validation, test=test)
    exact = Fraction(hundredths, 10000) * left
    assert split["split"]["counts"]["training"] == max(1, floor(exact + Fraction(1, 2)))


def test_the_draw_is_the_documented_one():
    """Written down again, the slow way: test from the front of the hash order, validation from its end."""
    import hashlib

    order = sorted((f"case{i:03d}" for i in range(20)), key=lambda p: hashlib.sha256(f"3:{p}".encode()).hexdigest())
    split = make_split(roster(20), labels=5, validation=4, test=6, seed=3)
    expected = {"test": order[:6], "validation": order[16:], "training": order[6:11], "unlabeled": order[11:16]}
    for part, names in expected.items():
        assert images(split, part) == sorted(f"images/{name}.nii.gz" for name in names)


def test_the_draw_does_not_depend_on_the_process():
    code = (
        "import json; from monai_ssl.data.split import make_split\n"
        "data = {'training': [{'image': f'{i}.nii', 'label': f'l{i}.nii'} for i in range(12)]}\n"
        "print(json.dumps(make_split(data, labels='25%', validation=2, test=2, seed=5)))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": h}
        )
        for h in ("0", "1")
    ]
    assert runs[0].stdout == runs[1].stdout


def test_seeds_draw_differently_and_every_case_gets_its_turn():
    drawn = [frozenset(images(make_split(roster(10), labels=2, seed=seed), "training")) for seed in range(200)]
    assert len(set(drawn)) > 30  # of 45 pairs
    counts = [sum(f"images/case{i:03d}.nii.gz" in pair for pair in drawn) for i in range(10)]
    assert min(counts) > 15  # 40 expected, standard deviation 5.7
    assert max(counts) < 65


def test_metadata_is_carried_over_and_the_split_says_how_it_was_made():
    carried = {"name": "N", "description": "d", "reference": "r", "licence": "CC", "modality": {"0": "CT"}}
    carried |= {"labels": {"0": "background"}, "tensorImageSize": "3D"}
    split = make_split({**roster(10), **carried, "numTraining": 99, "other": 1}, labels="10%", test=3, seed=4)
    assert {key: split[key] for key in carried} == carried
    assert (split["numTraining"], split["numTest"]) == (1, 3)
    assert "other" not in split
    assert split["split"] == {
        "seed": 4,
        "labels": "10%",
        "asked": {"training": 1, "validation": 0, "test": 3},
        "counts": {"training": 1, "unlabeled": 6, "validation": 0, "test": 3},
        "patients": {"training": 1, "unlabeled": 6, "validation": 0, "test": 3},
        "patient_rule": "file name without its suffix",
        "messages": [],
    }


def test_labels_may_be_a_number_as_text_or_all():
    assert make_split(roster(6), labels=3)["training"] == make_split(roster(6), labels="3")["training"]
    split = make_split(roster(6), labels="all", test=2)
    assert (len(split["training"]), len(split["unlabeled"])) == (4, 0)


def test_whole_patients_fall_short_and_say_so():
    data = {"training": [entry(f"p{p}_{s}", patient=p) for p in range(3) for s in range(2)]}
    split = make_split(data, labels=3)
    assert len(split["training"]) == 2
    assert split["split"]["messages"] == ["`training`: 2 cases instead of 3, since patients stay whole"]
    with pytest.raises(UserError, match=r"`labels` = 1 is too few for a whole patient: .* has 2 cases"):
        make_split(data, labels=1)
    with pytest.raises(UserError, match=r"`test` = 1 is too few for a whole patient"):
        make_split(data, labels=2, test=1)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"labels": 0}, "`labels` must be a number of cases from 1, a percentage up to 100%, or all, got '0'"),
        ({"labels": "0%"}, "got '0%'"),
        ({"labels": "101%"}, "got '101%'"),
        ({"labels": -2}, "got '-2'"),
        ({"labels": "some"}, "got 'some'"),
        ({"labels": "2.5"}, r"got '2\.5'"),
        ({"labels": True}, "got 'True'"),
        ({"labels": 6}, "`labels` asks for 6 cases, but there are 5 labelled cases left"),
        ({"labels": 3, "test": 2, "validation": 1}, "`labels` asks for 3 cases, but there are 2 labelled cases left"),
        ({"labels": 1, "test": 6}, "`test` asks for 6 cases, but there are 5"),
        ({"labels": 1, "test": 2, "validation": 4}, "`validation` asks for 4 cases, but there are 3"),
        ({"labels": 1, "test": 2, "validation": 3}, "no labelled cases left after validation and test"),
        ({"labels": 1, "test": -1}, "`test` must be a whole number of cases, 0 or more, got -1"),
        ({"labels": 1, "validation": 1.5}, r"`validation` must be a whole number of cases, 0 or more, got 1\.5"),
        ({"labels": 1, "patient_regex": "("}, r"`patient_regex` must be a regular expression, got '\('"),
        ({"labels": 1, "patient_regex": r"x(\d)"}, r"`patient_regex` must name the patient of every case, .* case000"),
    ],
)
def test_bad_values_are_named(choices, message):
    with pytest.raises(UserError, match=message):
        make_split(roster(5), **choices)


def test_an_empty_pool_unlabelled_training_and_repeats_are_refused():
    with pytest.raises(UserError, match="no labelled cases left"):
        make_split({"training": []}, labels="all")
    with pytest.raises(UserError, match=r"entry 2 of `training` \(b\) has no `label`"):
        make_split({"training": [entry("a"), {"image": "b"}]}, labels=1)
    again = {"image": "./images/a.nii.gz", "label": "x"}
    with pytest.raises(UserError, match="is in `training` twice"):
        make_split({"training": [entry("a"), again]}, labels=1)


# --- patients -------------------------------------------------------------------------------------------------------


def test_an_expression_finds_patients_in_file_names():
    data = {"training": [entry(f"site1_p{p}_visit{v}") for p in range(4) for v in range(2)]}
    split = make_split(data, labels=2, test=2, patient_regex=r"_(p\d+)_")
    assert split["split"]["patients"] == {"training": 1, "unlabeled": 2, "validation": 0, "test": 1}
    assert {case["patient"] for part in PARTS for case in split[part]} == {"p0", "p1", "p2", "p3"}
    assert split["split"]["patient_rule"] == r"'_(p\\d+)_' in the file name"


def test_an_expression_with_a_slash_sees_the_path():
    data = {
        "training": [{"image": f"sub-{p}/t{t}.nii.gz", "label": f"sub-{p}/s{t}.nii.gz"} for p in (1, 2) for t in (1, 2)]
    }
    split = make_split(data, labels=2, patient_regex="sub-[0-9]+/")
    assert len({image.split("/")[0] for image in images(split, "training")}) == 1


def test_the_file_name_is_the_patient_otherwise():
    data = {"training": [entry("a"), {"image": "b.nrrd", "label": "x"}, {"image": "1.2.3", "label": "y"}]}
    split = make_split(data, labels=1)
    assert split["split"]["patients"]["unlabeled"] == 2
    assert all("patient" not in case for part in PARTS for case in split[part])


def test_patients_for_some_cases_only_need_an_expression():
    data = {"training": [entry("a_1", patient="a"), entry("a_2"), entry("b_1")]}
    with pytest.raises(UserError, match=r"images/a_2\.nii\.gz has no `patient`, but other cases have: .* all 2 such"):
        make_split(data, labels=1)
    assert make_split(data, labels="all", patient_regex="[a-z]")["split"]["patients"]["training"] == 2


# --- what the source list brings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["validation", "test"])
def test_own_labelled_parts_are_kept_and_not_drawn_over(part):
    own = [entry("own1"), entry("own2")]
    split = make_split({**roster(5), part: own}, labels=2)
    assert split[part] == own
    assert len(split["unlabeled"]) == 3
    with pytest.raises(
        UserError, match=rf"`{part}` must be 0 or omitted, got 1: the list has 2 labelled `{part}` cases"
    ):
        make_split({**roster(5), part: own}, labels=2, **{part: 1})
    with pytest.raises(UserError, match=rf"is in `training` .* and in `{part}`"):
        make_split({**roster(5), part: [entry("case000")]}, labels=2)


def test_decathlons_unlabelled_test_is_left_out_and_counted():
    split = make_split({**roster(5), "test": [{"image": "t1"}, {"image": "t2"}]}, labels=2, test=1)
    assert len(split["test"]) == 1
    assert split["split"]["messages"] == ["`test`: 2 entries of the list without a label left out"]


def test_own_unlabelled_cases_lose_labels_repeats_and_evaluated_patients():
    data = {"training": [entry(f"c{i}", patient=f"p{i}") for i in range(4)]}
    held = make_split(data, labels=1, test=1)["test"][0]["patient"]
    data["unlabeled"] = [
        {"image": "u1", "label": "secret", "patient": "new"},
        {"image": "./u1", "patient": "new"},
        {"image": "u2", "patient": held},
        {"image": "images/c0.nii.gz", "patient": "p0"},
    ]
    split = make_split(data, labels=1, test=1)
    assert {"image": "u1", "patient": "new"} in split["unlabeled"]
    everything = [image for part in PARTS for image in images(split, part)]
    assert sorted(everything) == [f"images/c{i}.nii.gz" for i in range(4)] + ["u1"]
    assert "secret" not in json.dumps(split)
    left_out = 1 + (held == "p0")
    assert split["split"]["messages"] == [f"`unlabeled`: {left_out} cases of patients in validation or test left out"]


def test_a_split_can_be_split_again():
    first = make_split(roster(10), labels=6, test=2)
    second = make_split(first, labels=2)
    assert second["test"] == first["test"]
    assert set(images(second, "training")) < set(images(first, "training"))
    assert len(second["unlabeled"]) == 6


# --- writing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path):
    for case in roster(6)["training"]:
        for file in case.values():
            (tmp_path / "data" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / file).touch()
    path = tmp_path / "data" / "dataset.json"
    path.write_text(json.dumps(roster(6)))
    return path


def test_the_written_split_loads_with_dataset_dir_from_anywhere(source, tmp_path):
    output = tmp_path / "deep" / "er" / "split.json"
    split = write_split(source.parent, output, labels=2, test=1)
    assert json.loads(output.read_text()) == split == read_datalist(output)
    assert split["split"]["source"] == "dataset.json"
    assert str(tmp_path) not in output.read_text()
    check_leaks(output, source.parent)
    assert [len(load_cases(output, part, source.parent)) for part in PARTS] == [2, 3, 0, 1]
    beside = source.with_name("split.json")
    write_split(source, beside, labels=2, test=1)
    assert load_cases(beside, "training") == load_cases(output, "training", source.parent)


def test_nothing_is_lost_by_writing(source, tmp_path):
    output = tmp_path / "split.json"
    output.write_text("precious")
    with pytest.raises(UserError, match=r"split\.json: `output` exists already: .* --overwrite"):
        write_split(source, output, labels=2)
    with pytest.raises(UserError, match=r"dataset\.json: `labels` asks for 7"):
        write_split(source, output, labels=7, overwrite=True)
    assert output.read_text() == "precious"
    write_split(source, output, labels=2, overwrite=True)
    assert json.loads(output.read_text())["numTraining"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "split.json"], "no temporary file stays"


def test_the_source_and_a_folder_are_never_written(source, tmp_path):
    before = source.read_text()
    with pytest.raises(UserError, match="must not be the source list itself"):
        write_split(source.parent, source, labels=2, overwrite=True)
    with pytest.raises(UserError, match="must be a JSON file, got a folder"):
        write_split(source, tmp_path, labels=2, overwrite=True)
    assert source.read_text() == before


def test_a_healthy_case_is_labelled_by_its_empty_list_of_boxes(tmp_path):
    box = {"box": [[1, 2, 3, 4, 5, 6]], "label": [0]}
    data = {"training": [{"image": f"{i}.nii.gz", "box": []} for i in range(4)]}
    data["test"] = [{"image": "sick.nii.gz", **box}, {"image": "well.nii.gz", "box": []}, "unknown.nii.gz"]
    data["unlabeled"] = [{"image": "more.nii.gz", **box}]
    source = tmp_path / "detection.json"
    source.write_text(json.dumps(data))
    split = write_split(source, tmp_path / "split.json", labels=2, validation=1)
    healthy = {"box": [], "label": []}
    assert [len(split[part]) for part in PARTS] == [2, 2, 1, 2]
    assert all(
        case == {"image": case["image"], **healthy} for part in ("training", "validation") for case in split[part]
    )
    assert split["test"] == [{"image": "sick.nii.gz", **box}, {"image": "well.nii.gz", **healthy}]
    assert all(set(case) == {"image"} for case in split["unlabeled"])
    assert "more.nii.gz" in images(split, "unlabeled")
    assert split["split"]["messages"] == ["`test`: 1 entries of the list without a label left out"]
    again = write_split(tmp_path / "split.json", tmp_path / "again.json", labels=1)
    assert (again["test"], again["validation"]) == (split["test"], split["validation"])


def test_boxes_go_with_their_cases_and_no_further(tmp_path):
    boxes = [[[i, 2.5, 3, 4, 5, 6]] * (i % 2) for i in range(9)]
    cases = [{"image": f"images/{i}.nii.gz", "box": b, "label": [0] * len(b)} for i, b in enumerate(boxes)]
    source = tmp_path / "detection.json"
    labels = {"0": "nodule"}
    source.write_text(json.dumps({"training": cases, "labels": labels, "box_mode": "cccwhd"}))
    write_split(source, tmp_path / "split.json", labels=3, validation=2, test=2)
    split = read_datalist(tmp_path / "split.json", boxes=True)
    by_image = {case["image"]: case for case in cases}
    assert [len(split[part]) for part in PARTS] == [3, 2, 2, 2]
    for part in ("training", "validation", "test"):
        assert split[part] == [by_image[case["image"]] for case in split[part]]
    assert all(set(case) == {"image"} for case in split["unlabeled"])
    assert (split["labels"], split["box_mode"]) == (labels, "cccwhd")


def test_excluded_cases_are_in_no_part():
    data = {**roster(10), "unlabeled": [{"image": "more/u.nii.gz"}], "validation": [entry("v0"), entry("v1")]}
    whole = make_split(data, labels=3, test=2)
    gone = images(whole, "test")[0]
    exclude = [gone, "case000", "u", "v1"]
    split = make_split(data, labels=3, test=2, exclude=exclude)
    used = {image for part in PARTS for image in images(split, part)}
    assert used == {image for part in PARTS for image in images(whole, part)} - {
        *(gone, "images/case000.nii.gz", "more/u.nii.gz", "images/v1.nii.gz")
    }
    assert len(images(split, "test")) == 2
    left_out = 4 if gone != "images/case000.nii.gz" else 3
    assert split["split"]["messages"] == [f"{left_out} cases left out by `exclude`"]
    assert make_split(data, labels=3, test=2, exclude="") == whole
    assert make_split(data, labels="all", exclude="u")["split"]["messages"] == ["1 case left out by `exclude`"]


def test_an_excluded_case_mixes_no_patients():
    data = {"training": [entry("a", patient="p"), entry("b", patient="q")], "test": [entry("c", patient="p")]}
    with pytest.raises(UserError, match="patient p"):
        make_split(data, labels=1)
    assert images(make_split(data, labels=1, exclude="a"), "training") == ["images/b.nii.gz"]


def test_a_name_to_exclude_that_is_nowhere_is_refused(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps(roster(3)))
    message = rf"^{tmp_path}/dataset.json: `exclude` has 'case01', and no case of the list has this name; did you mean"
    with pytest.raises(UserError, match=message):
        write_split(tmp_path, tmp_path / "split.json", labels=1, exclude="case01")
    assert not (tmp_path / "split.json").exists()
