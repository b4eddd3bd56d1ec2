from __future__ import annotations

import json
import os

import torch

from monai_ssl.label.progress import newest_run, trained_weights, training_stats
from monai_ssl.utils.bundle import UNTRAINED


def write_run(models, name, rows, age=0, planned=None, done=False):
    run = models / "runs" / name
    run.mkdir(parents=True)
    columns = "step,loss,seconds,validation_dice"
    (run / "steps.csv").write_text("\n".join([columns, *(",".join(map(str, row)) for row in rows)]) + "\n")
    if planned is not None:
        (run / "run_manifest.json").write_text(json.dumps({"settings": {"max_steps": planned}}))
    if done:
        (run / "model.pt").touch()
    for file in run.iterdir():
        os.utime(file, (1e9 - age, 1e9 - age))
    return run


def test_nothing_before_the_first_training(tmp_path):
    assert newest_run(tmp_path) is None
    assert training_stats(tmp_path) == {}
    assert trained_weights(tmp_path) is None


def test_the_newest_run_is_told_in_the_words_of_clients(tmp_path):
    write_run(tmp_path, "b", [(1, 0.5, 9.0, 0.9)], age=100, done=True)
    run = write_run(tmp_path, "a", [(1, 0.5, 1.25, ""), (2, 0.4, 1.0, 0.7), (3, 0.4, 1.0, "")], planned=10)
    assert newest_run(tmp_path) == run
    expected = {"epoch": 3, "total_epochs": 10, "best_metric": 0.7, "seconds": 3.2, "run": "a"}
    assert training_stats(tmp_path) == expected
    (run / "model.pt").touch()
    assert training_stats(tmp_path) == expected | {"total_time": "3 s"}


def test_a_run_without_rows_or_manifest_does_not_break_the_answer(tmp_path):
    run = write_run(tmp_path, "a", [])
    assert training_stats(tmp_path) == {}
    (run / "steps.csv").write_text("step,loss,seconds,validation_cpm\n4,0.1,2.0,\n")
    assert training_stats(tmp_path)["total_epochs"] == 4
    (run / "run_manifest.json").write_text("broken")
    assert training_stats(tmp_path)["best_metric"] == 0.0


def test_weights_are_those_of_the_last_finished_run(tmp_path):
    torch.save({"model": {}, UNTRAINED: True}, tmp_path / "model.pt")
    assert trained_weights(tmp_path) is None
    torch.save({"model": {}}, tmp_path / "model.pt")
    assert trained_weights(tmp_path) == tmp_path / "model.pt"
    older = write_run(tmp_path, "a", [(1, 1, 1, "")], age=10, done=True)
    write_run(tmp_path, "b", [(1, 1, 1, "")])  # cancelled
    assert trained_weights(tmp_path) == older / "model.pt"
