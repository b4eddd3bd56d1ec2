from __future__ import annotations

import pytest

from monai_ssl.data.patients import BY_FILE_NAME, check_apart, image_of, patient_rule
from monai_ssl.utils.errors import UserError


def entries(*images, **more):
    return [{"image": image, **more} for image in images]


@pytest.mark.parametrize(
    ("image", "patient"),
    [
        ("images/a.nii.gz", "a"),
        ("a.NII.GZ", "a"),
        ("./x/a.b.nii", "a.b"),
        ("a.nrrd", "a"),
        ("a.mha", "a"),
        ("1.2.840.113", "1.2.840.113"),
        ("series/1.2/", "1.2"),
        (".nii.gz", ".nii.gz"),
    ],
)
def test_the_file_name_without_its_suffix(image, patient):
    rule, patient_of = patient_rule(entries(image), None)
    assert rule == BY_FILE_NAME
    assert patient_of({"image": image}) == patient


@pytest.mark.parametrize(
    ("regex", "patient"),
    [
        (r"p\d+", "p12"),  # the whole match
        (r"_(p\d+)_(v\d)", "p12"),  # the first of two groups
        (r"^site", "site"),  # the file name, not the path
        (r"(sub-\d)/", "sub-7"),  # the path, since there is a slash
    ],
)
def test_an_expression(regex, patient):
    case = {"image": "./data/sub-7/site_p12_v3.nii.gz"}
    assert patient_rule([case], regex)[1](case) == patient


@pytest.mark.parametrize("regex", [r"x\d", r"a(b)?", r"z*"])
def test_an_expression_that_names_nobody_is_refused(regex):
    case = {"image": "a.nii"}
    with pytest.raises(
        UserError, match=r"`patient_regex` must name the patient of every case, but .* finds none in a.nii"
    ):
        patient_rule([case], regex)[1](case)


def test_the_lists_own_patient_comes_first():
    named, bare = {"image": "p1.nii", "patient": 3}, {"image": "p2.nii"}
    rule, patient_of = patient_rule([named], r"p\d")
    assert (rule, patient_of(named)) == ("`patient` of the list", "3")
    rule, patient_of = patient_rule([named, bare], r"p\d")
    assert rule == r"`patient` of the list, else 'p\\d' in the file name"
    assert [patient_of(named), patient_of(bare)] == ["3", "p2"]


def test_one_image_has_one_name():
    assert image_of({"image": "./a//b/../c.nii"}) == image_of({"image": "a/c.nii"}) == "a/c.nii"


def test_apart():
    _, patient_of = patient_rule(entries("a.nii"), None)
    check_apart({"training": entries("a.nii", "b.nii"), "test": entries("c.nii")}, patient_of)
    with pytest.raises(UserError, match=r"patient a is in `training` \(x/a\.nii\) and in `test` \(y/a\.nii\)"):
        check_apart({"training": entries("x/a.nii"), "test": entries("y/a.nii")}, patient_of)


def test_apart_sees_one_image_under_two_patients():
    _, patient_of = patient_rule(entries("a.nii", patient="p"), None)
    with pytest.raises(UserError, match=r"image a\.nii is in `training` \(a\.nii\) and in `test` \(\./a\.nii\)"):
        check_apart({"training": entries("a.nii", patient="p"), "test": entries("./a.nii", patient="q")}, patient_of)
