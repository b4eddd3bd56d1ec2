from __future__ import annotations

import json

import pytest

from monai_ssl.data.cases import load_images
from monai_ssl.data.datalist import channel_count, class_names, find_datalist, read_datalist
from monai_ssl.data.leaks import check_leaks
from monai_ssl.utils.errors import UserError
from tests.data.list_entries import case


def test_find_takes_a_file_a_folder_or_the_dataset_folder(write, tmp_path):
    path = write({"training": []})
    assert find_datalist(path, None) == find_datalist(str(tmp_path), None) == find_datalist(None, tmp_path) == path
    other = write({"training": []}, name="split.json")
    assert find_datalist(other, tmp_path) == other


@pytest.mark.parametrize(
    ("said", "channels"),
    [
        ({"modality": {"0": "CT"}}, 1),
        ({"modality": {"0": "T2", "1": "ADC"}}, 2),
        ({"modality": {"0": "T2", "1": "ADC"}, "channel_names": {"0": "T2", "1": "ADC", "2": "DWI"}}, 3),
        ({"modality": "MRI"}, 1),
        ({}, 1),
    ],
)
def test_a_list_tells_the_number_of_channels(write, tmp_path, said, channels):
    path = write({"training": [], **said})
    assert channel_count(path) == channel_count(None, tmp_path) == channels


def test_where_there_is_no_list_there_is_one_channel(tmp_path):
    assert channel_count(None) == channel_count(None, tmp_path) == 1


@pytest.mark.parametrize(
    ("datalist", "dataset_dir", "message"),
    [
        (None, None, r"`datalist` .* or `dataset_dir` .* must be given"),
        ("missing.json", None, r"missing\.json: `datalist` must be an existing file or folder"),
        (None, "missing", r"missing: `dataset_dir` must be an existing"),
        ("empty", None, r"empty: `datalist` is a folder without dataset\.json: put a Decathlon list there"),
        (None, "empty", r"empty: `dataset_dir` is a folder without dataset\.json"),
        (None, "file", r"file: `dataset_dir` must be a folder, got a file"),
    ],
)
def test_find_says_what_is_expected(tmp_path, monkeypatch, datalist, dataset_dir, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        find_datalist(datalist, dataset_dir)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"training": [\n  1,,\n]}', r"dataset\.json: not valid JSON at line 2, column 5"),
        ([], "top level must be an object with a `training` list, got a list"),
        ({"name": "x"}, "at least one of the parts"),
        (
            {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz"},
            "nnU-Net dataset.json, and there is no folder imagesTr",
        ),
        ({"training": {"image": "a"}}, "`training` must be a list of entries, got an object"),
        ({"training": [case("a"), 3]}, "entry 2 of `training` must be an object with `image`, got a number"),
        ({"training": ["a.nii.gz"]}, "entry 1 of `training` must be an object with `image`, got a string"),
        ({"validation": [{"label": "a"}]}, "entry 1 of `validation` must have `image`"),
        ({"unlabeled": [{"image": ["a", "b"]}]}, "entry 1 of `unlabeled` must have `image`, the path of one file"),
        ({"training": [{"image": "a", "label": 1}]}, r"entry 1 of `training` \(a\): `label` must be a path"),
        ({"training": [case("a", patient=[1])]}, r"`patient` must be a string, got \[1\]"),
    ],
)
def test_read_names_file_part_and_entry(write, content, message):
    path = write(content)
    with pytest.raises(UserError, match=message) as raised:
        read_datalist(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_read_refuses_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\x1f\x8b\xff")
    with pytest.raises(UserError, match=r"a\.json: cannot be read as a JSON text file"):
        read_datalist(path)


def test_read_accepts_decathlon_strings_and_a_byte_order_mark(write):
    path = write("\ufeff" + json.dumps({"training": [], "test": ["./a.nii.gz"], "unlabeled": ["b.nii.gz"]}))
    assert read_datalist(path)["test"] == [{"image": "./a.nii.gz"}]
    assert read_datalist(path)["unlabeled"] == [{"image": "b.nii.gz"}]


def test_read_drops_empty_labels_and_makes_patients_strings(write):
    read = read_datalist(write({"training": [case("a", patient=7), {"image": "b", "label": None, "patient": ""}]}))
    assert read["training"] == [case("a", patient="7"), {"image": "b"}]


# --- class names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [{"1": "liver", "0": "background"}, {"liver": 1, "background": 0}])
def test_class_names_in_order_of_their_values(write, labels):
    assert class_names(write({"training": [], "labels": labels}), default=["x"]) == ["background", "liver"]


def test_class_names_sort_by_number_not_by_text(write):
    labels = {str(value): f"class {value}" for value in range(12)}
    assert class_names(write({"training": [], "labels": labels})) == [f"class {value}" for value in range(12)]


@pytest.mark.parametrize(
    "labels",
    [{"0": "a", "2": "b"}, {"1": "a"}, {"a": 0, "b": 0}, {"0": "a", "1": "a"}, {}, ["a"], {"a": "b"}],
)
def test_class_names_must_be_consecutive(write, labels):
    with pytest.raises(UserError, match=r"dataset\.json: `labels` must name the values 0, 1, 2, \.\.\. once each"):
        class_names(write({"training": [], "labels": labels}), default=["x"])


@pytest.mark.parametrize("name", ["$open('victim', 'w')", "@network", "%other.yaml"])
def test_a_class_name_that_would_be_code_in_a_config_is_refused(write, name):
    with pytest.raises(UserError, match=r"`labels`: .* is code in a config"):
        class_names(write({"training": [], "labels": {"0": "background", "1": name}}))


def test_class_names_fall_back_to_the_default(write):
    default = ["background", "thing"]
    assert class_names(None, None, default) == default
    path = write({"training": []})
    assert class_names(path, default=default) == default
    with pytest.raises(UserError, match="`labels` is missing"):
        class_names(path)
    with pytest.raises(UserError, match="must be given"):
        class_names(None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is nested too deeply to be a data list"),
        ('{"training": [], "n": ' + "1" * 5000 + "}", "cannot be read as a JSON text file: Exceeds the limit"),
        ('{"training": [{"image": "\\ud800", "label": "b"}]}', r"has characters that are no text, such as '\\ud800'"),
        ('{"training": [{"image": "a\\u0000b", "label": "b"}]}', r"entry 1 of `training` must have a path as `image`"),
        ('{"training": [{"image": "a", "label": "b\\u0000"}]}', r"must have a path as `label`, and 'b\\x00' has"),
    ],
)
def test_what_no_list_can_say_is_refused_in_a_line(write, text, message):
    path = write(text)
    for call in (read_datalist, check_leaks, load_images):
        with pytest.raises(UserError, match=message) as caught:
            call(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_labels_of_a_thousand_digits_are_no_values(write):
    with pytest.raises(UserError, match="`labels` must name the values 0, 1, 2"):
        class_names(write({"training": [], "labels": {"0": "background", "1" * 5000: "spleen"}}))
