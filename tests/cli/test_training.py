from __future__ import annotations

import json
import re

from monai_ssl.study import conduct, process
from tests.cli.helpers import monai_ssl
from tests.study.helpers import fake_command, write_plan

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
