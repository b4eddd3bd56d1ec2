from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest
import torch
import yaml
from typer.testing import CliRunner

import monai_ssl.utils.bundle_files as bundle_files
from monai_ssl.cli import app
from monai_ssl.study import conduct, process
from tests.study.helpers import fake_command, write_plan

IMPORTS = "import sys; sys.argv[0] = 'monai-ssl'\nfrom monai_ssl.cli import app\ntry: app()\nfinally: "
IMPORTS += "sys.stderr.write('heavy: ' + ' '.join(m for m in ('monai', 'torch', 'numpy') if m in sys.modules))"


def monai_ssl(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    cases = [{"image": f"case{i}.nii.gz", "label": f"label{i}.nii.gz"} for i in range(8)]
    for case in cases:
        (folder / case["image"]).touch()
    (folder / "dataset.json").write_text(json.dumps({"training": cases, "test": ["a.nii.gz"]}))
    return folder


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_files, "__file__", str(tmp_path / "monai_ssl" / "utils" / "bundle_files.py"))
    folder = tmp_path / "bundles" / "semi_segmentation"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text('{"version": "1.2.3", "description": "with [brackets]"}')
    (folder / "configs" / "inference.yaml").write_text("spacing: [1, 1, 1]  # mm\n")
    return folder


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


def test_debug_brings_the_traceback(data):
    result = monai_ssl("--debug", "path", "nothing")
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "UserError"
    done = subprocess.run(
        [sys.executable, "-m", "monai_ssl.cli", "--debug", "path", "x"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_usage_errors_exit_with_two():
    assert monai_ssl("split").exit_code == 2
    assert monai_ssl("no-such-command").exit_code == 2
    assert monai_ssl("split", "--data", "x", "--labels", 1, "--output", "y", "--test", "two").exit_code == 2


def test_version():
    result = monai_ssl("--version")
    assert result.exit_code == 0
    assert re.fullmatch(r"monai-ssl \d+\.\d+\S*\n", result.stdout)


def test_bundles_lists_them(bundle):
    words = monai_ssl("bundles").stdout.split()
    assert {"semi_segmentation", "1.2.3", "[brackets]"} <= set(words)


def test_path_prints_the_path_alone(bundle):
    assert monai_ssl("path", "semi_segmentation").stdout == f"{bundle}\n"
    result = monai_ssl("path", "semi_segmentatoin")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the nearest is 'semi_segmentation'" in result.stderr


def test_init_copies_and_bakes(bundle, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.pt").touch()
    (run / "preprocessing.json").write_text('{"spacing": [2, 2, 2]}')
    result = monai_ssl("init", "semi_segmentation", tmp_path / "mine", "--from", run)
    assert result.exit_code == 0
    assert (tmp_path / "mine" / "configs" / "inference.yaml").read_text() == "spacing: [2, 2, 2]  # mm\n"
    result = monai_ssl("init", "semi_segmentation", tmp_path / "mine")
    assert result.exit_code == 1
    assert "must be new or empty" in result.stderr


def test_init_sets_values_in_every_config_at_once(tmp_path):
    target = tmp_path / "mine"
    words = ("--set", "class_names=[background, liver, tumour]", "--set", "modality=CT", "--weights", "untrained")
    assert monai_ssl("init", "semi_segmentation", target, *words).exit_code == 0
    for name in ("train", "evaluate", "inference", "suggest"):
        config = yaml.safe_load((target / "configs" / f"{name}.yaml").read_text())
        assert (config["class_names"], config["modality"]) == (["background", "liver", "tumour"], "CT"), name
    metadata = json.loads((target / "configs" / "metadata.json").read_text())
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"]["2"] == "tumour"
    weights = torch.load(target / "models" / "model.pt", weights_only=True)["model"]
    assert 3 in {len(value) for value in weights.values() if value.ndim == 1}, "as many outputs as classes"


@pytest.mark.parametrize("word", ["spacing", "=1", "spacing=[1,", ""])
def test_what_is_no_setting_is_told(tmp_path, word):
    result = monai_ssl("init", "semi_segmentation", tmp_path / "mine", "--set", word)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: --set must be KEY=VALUE with a YAML value")
    result = monai_ssl("init", "semi_segmentation", tmp_path / "mine", "--set", "nothing=1")
    assert "no config of semi_segmentation has the key `nothing`" in result.stderr
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--models", "segmentation,pathology"), "--models must be of segmentation, detection"),
        (("--models", ","), "--models must be of"),
        (("--modality", "PET"), "--modality must be CT or MRI"),
    ],
)
def test_label_checks_its_options_before_anything_starts(tmp_path, words, reason):
    result = monai_ssl("label", "--studies", tmp_path, *words)
    assert result.exit_code == 1
    assert re.fullmatch(rf"Error: [^\n]*{reason}[^\n]*\n", result.stderr)
    assert not list(tmp_path.iterdir())


def test_init_writes_a_first_model_or_nothing(tmp_path):
    target = tmp_path / "mine"
    result = monai_ssl("init", "semi_segmentation", target, "--weights", "untrained")
    assert (result.exit_code, result.stdout) == (0, f"Wrote {target}\n")
    assert (target / "models" / "model.pt").is_file()
    for words, reason in (
        (("--weights", tmp_path / "no.pt"), "no.pt: there are no weights here"),
        (("--weights", target / "configs" / "metadata.json"), "metadata.json: cannot be read as weights"),
        (("--weights", "untrained", "--from", tmp_path), "exclude each other"),
    ):
        result = monai_ssl("init", "focalmix_detection", tmp_path / "other", *words)
        assert result.exit_code == 1
        assert re.fullmatch(rf"Error: [^\n]*{reason}[^\n]*\n", result.stderr)
    result = monai_ssl("init", "focalmix_detection", tmp_path / "other", "--weights", target / "models" / "model.pt")
    assert result.exit_code == 1
    assert "model.pt: does not fit this network" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


@pytest.mark.parametrize("arguments", [("--help",), ("split", "--help"), ("--version",), ("bundles",), ("split",)])
def test_nothing_heavy_is_imported(data, tmp_path, arguments):
    if arguments == ("split",):
        arguments = ("split", "--data", str(data), "--labels", "2", "--output", str(tmp_path / "split.json"))
    done = subprocess.run([sys.executable, "-c", IMPORTS, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "heavy: "


def test_help_answers_at_once():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "monai_ssl.cli", "--help"], capture_output=True, text=True)
        times.append(time.perf_counter() - start)
        assert done.returncode == 0
        assert "split" in done.stdout
    assert min(times) < 2  # about 0.2 s on an idle machine; importing torch alone takes longer than this bound


BROKEN = {"label": "broken", "method": "mean_teacher", "settings": {"objective#noise": "broken"}}


def test_study_prints_its_table_and_a_failure_is_exit_code_1(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "bundle_command", fake_command)
    plan = write_plan(tmp_path, methods=["supervised", "mean_teacher"], budgets=[2])
    result = monai_ssl("study", plan, "--output", tmp_path / "out", "--jobs", 2)
    assert result.exit_code == 0, result.output
    assert "4 runs of 4 steps: 0 finished, 4 to do." in result.stdout
    row = r"2 +supervised +2 +0\.\d{4} +-?\d\.\d{4} to \d\.\d{4} +0\.\d{4} +0\.\d{4}\n"
    assert re.search(r"labels +method +seeds +mean dice +95 % interval +seed 0 +seed 1\n" + row, result.stdout)
    findings = json.loads((tmp_path / "out/study.json").read_text())["findings"]
    assert "\n".join(findings["answer"]) in result.stdout
    plan = write_plan(tmp_path, methods=["supervised", "mean_teacher", BROKEN], budgets=[2])
    result = monai_ssl("study", plan, "--output", tmp_path / "out", "--jobs", 2)
    assert result.exit_code == 1
    assert "6 runs of 4 steps: 4 finished, 2 to do." in result.stdout
    assert "Error: broken, labels 2, seed 1: train ended with status 1: Error: broken on purpose" in result.stderr
    assert "2 runs failed; the same command tries them again." in result.stderr


def test_study_says_what_it_would_do(tmp_path):
    result = monai_ssl("study", write_plan(tmp_path), "--output", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "to do: mean_teacher, labels 4, seed 1" in result.stdout
    assert not (tmp_path / "out").exists()


def test_a_stopped_study_says_how_to_go_on(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(conduct, "run_study", stop)
    result = monai_ssl("study", write_plan(tmp_path), "--output", tmp_path / "out")
    assert result.exit_code == 130
    assert result.stderr == "Stopped, and nothing is lost: the same command goes on.\n"


def test_a_mistake_in_a_plan_is_one_line(tmp_path):
    result = monai_ssl("study", write_plan(tmp_path, steps="many"), "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: [^\n]*plan.yaml: `steps` must be a whole number from 1, got 'many'.\n", result.stderr)
    assert monai_ssl("study", tmp_path / "plan.yaml", "--output", tmp_path / "out", "--jobs", 0).exit_code == 2
