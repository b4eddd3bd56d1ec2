from __future__ import annotations

import json
import re

import pytest

from tests.cli.helpers import monai_ssl
from tests.data.check_files import image_voxels, make_data, save, write_list


def test_split_writes_and_says_how_to_use_it(data, tmp_path):
    output = tmp_path / "lists" / "split.json"
    result = monai_ssl("split", "--data", data, "--labels", "50%", "--validation", 1, "--test", 2, "--output", output)
    assert result.exit_code == 0
    written = json.loads(output.read_text())
    assert [len(written[part]) for part in ("training", "unlabeled", "validation", "test")] == [3, 2, 1, 2]
    assert re.search(r"training +3 +3", result.stdout)
    assert "Seed 0; patients told apart by: file name" in result.stdout
    assert "Note: `test`: 1 entries of the list without a label left out." in result.stdout
    assert f"use it with --dataset_dir {data} --datalist {output}" in result.stdout.replace("\n", " ")


def test_split_beside_the_source_needs_no_dataset_dir(data):
    result = monai_ssl("split", "--data", data / "dataset.json", "--labels", 2, "--output", data / "split.json")
    assert result.exit_code == 0
    assert "--dataset_dir" not in result.stdout


def test_the_hint_after_a_split_of_a_split_names_no_wrong_folder(data, tmp_path):
    for source, output in ((data, tmp_path / "a/first.json"), (tmp_path / "a/first.json", tmp_path / "b/second.json")):
        result = monai_ssl("split", "--data", source, "--labels", 2, "--output", output)
        assert result.exit_code == 0, result.output
    assert "--dataset_dir FOLDER (the one that" in result.output


def test_split_leaves_out_what_it_is_told_to(data, tmp_path):
    listed = [case["image"] for case in json.loads((data / "dataset.json").read_text())["training"]]
    arguments = ("split", "--data", data, "--labels", "all", "--output", tmp_path / "split.json", "--exclude")
    result = monai_ssl(*arguments, f"[{listed[0]},{listed[1]}]")
    assert result.exit_code == 0, result.output
    assert "Note: 2 cases left out by `exclude`." in result.stdout
    written = json.loads((tmp_path / "split.json").read_text())
    assert {case["image"] for case in written["training"]} == set(listed[2:])
    result = monai_ssl(*arguments, "nobody", "--overwrite")
    assert result.exit_code == 1
    assert "`exclude` has 'nobody', and no case of the list has this name" in result.stderr


def test_split_refuses_to_overwrite_until_told(data, tmp_path):
    arguments = ("split", "--data", data, "--labels", 2, "--output", tmp_path / "split.json")
    assert monai_ssl(*arguments).exit_code == 0
    result = monai_ssl(*arguments)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {tmp_path}/split.json: `output` exists already: choose another name or pass --overwrite.\n"
    )
    assert monai_ssl(*arguments, "--seed", 3, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--labels", "many"), "`labels` must be a number of cases from 1"),
        (("--labels", "-1"), "`labels` must be a number of cases from 1"),
        (("--labels", "99"), "`labels` asks for 99 cases, but there are 8"),
        (("--labels", "1", "--test", "-1"), "`test` must be a whole number of cases, 0 or more, got -1"),
        (("--labels", "1", "--patient-regex", "("), "`patient_regex` must be a regular expression"),
    ],
)
def test_mistakes_are_one_line_on_stderr(data, tmp_path, arguments, message):
    result = monai_ssl("split", "--data", data, "--output", tmp_path / "split.json", *arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert re.fullmatch(r"Error: [^\n]*\n", result.stderr)
    assert message in result.stderr
    assert not (tmp_path / "split.json").exists()


def test_an_output_that_cannot_be_written_is_one_line(data, tmp_path):
    (tmp_path / "file").touch()
    result = monai_ssl("split", "--data", data, "--labels", 1, "--output", tmp_path / "file" / "split.json")
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: [^\n]*file[^\n]*\n", result.stderr)


def test_a_pool_is_reported_with_a_line_to_paste_and_a_picture(tmp_path):
    content, cases = make_data(tmp_path)
    noisy = image_voxels(50) + image_voxels(60) / 50
    for name, voxels in (("unlabeled0", image_voxels(50)), ("unlabeled1", noisy)):
        save(tmp_path / "images" / f"{name}.nii.gz", voxels)
    path = write_list(tmp_path, content)
    assert monai_ssl("check", path).stdout.startswith("No fault")
    picture, table = tmp_path / "pool.png", tmp_path / "pool.json"
    result = monai_ssl("check", path, "--pool", "--picture", picture, "--json", table)
    assert result.exit_code == 0, result.output
    assert 'To train without one of each pair: --exclude "[unlabeled1]"' in result.stdout
    assert f"Wrote {picture} (1 scans)" in result.stdout.replace("\n", " ")
    (fault,) = json.loads(table.read_text())["faults"]
    assert (fault["kind"], fault["case"]) == ("near_duplicate", "unlabeled1")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(cases) == 6


def test_a_picture_is_one_of_a_pool(tmp_path):
    result = monai_ssl("check", tmp_path, "--picture", tmp_path / "a.png")
    assert (result.exit_code, result.stderr) == (1, "Error: --picture needs --pool, whose scans it shows.\n")
