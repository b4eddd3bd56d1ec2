from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from monai_ssl.label import suggestions as module
from monai_ssl.label.suggestions import Suggestions, rank_studies
from monai_ssl.utils.bundle import UNTRAINED

SEG, DET = "semi_segmentation", "focalmix_detection"
SCANS = [
    {"case": "/s/a.nii", "uncertainty": 0.1, "distance": 5.0},
    {"case": "/s/b.nii", "uncertainty": 0.9, "distance": 1.0},
    {"case": "/s/c.nii", "uncertainty": 0.5, "distance": 9.0},
]
RANKING = {"strategy": "uncertainty_coverage", "suggested": ["/s/c.nii", "/s/b.nii", "/s/a.nii"], "scans": SCANS}
PATHS = {"a": "/s/a.nii", "b": "/s/b.nii", "c": "/s/c.nii"}


def test_each_strategy_has_its_order():
    assert rank_studies("uncertainty_coverage", RANKING, PATHS) == ["c", "b", "a"]
    assert rank_studies("uncertainty", RANKING, PATHS) == ["b", "c", "a"]
    assert rank_studies("coverage", RANKING, PATHS) == ["c", "a", "b"]


def test_studies_with_a_label_by_now_and_new_ones_are_not_in_it():
    assert rank_studies("uncertainty", RANKING, {"a": "/s/a.nii", "new": "/s/n.nii"}) == ["a"]


def test_nothing_is_made_up():
    assert rank_studies("uncertainty", {}, PATHS) == []
    pretrained = {"strategy": "coverage", "suggested": ["/s/a.nii"], "scans": [{"case": "/s/a.nii"}]}
    assert rank_studies("uncertainty", pretrained, PATHS) == []
    assert rank_studies("uncertainty_coverage", pretrained, PATHS) == []
    assert rank_studies("coverage", pretrained, PATHS) == ["a"]


class Ended:
    """A process that has ended."""

    pid = 0

    def __init__(self, returncode: int, told: str = "") -> None:
        self.returncode, self.told = returncode, told

    def communicate(self):
        return None, self.told


class World:
    """Studies, bundles, and a process that writes what it is asked for."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commands: list[dict[str, str]] = []
        self.error, self.training = "", False
        self.state = {"labeled": {"a": "/s/a.nii"}, "unlabeled": {"b": "/s/b.nii", "c": "/s/c.nii"}}
        self.folder = folder
        self.suggestions = Suggestions(
            folder / "suggestions",
            [folder / SEG, folder / DET],
            folder / "pre",
            lambda: self.state,
            lambda: self.training,
        )
        monkeypatch.setattr(module.subprocess, "Popen", self.run)
        monkeypatch.setattr(module.os, "setpriority", lambda *_: None)

    def weights(self, bundle, **content):
        path = self.folder / bundle / "models" / "model.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": {}, **content}, path)
        return path

    def run(self, command, **_):
        words = command[command.index("--config_file") + 2 :]
        settings = {name[2:]: value for name, value in zip(words[::2], words[1::2], strict=True)}
        self.commands.append(settings)
        if self.error:
            return Ended(1, f"some line\n{self.error}\n")
        cases = [case["image"] for case in json.loads(Path(settings["datalist"]).read_text())["unlabeled"]]
        content = {"strategy": settings["strategy"], "suggested": cases, "scans": []}
        (Path(settings["output_dir"]) / "suggestions.json").write_text(json.dumps(content))
        return Ended(0)


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def test_without_a_trained_model_nothing_is_ranked(world):
    assert not world.suggestions.refresh()
    world.weights(SEG, **{UNTRAINED: True})
    assert not world.suggestions.refresh()
    assert world.commands == []
    assert world.suggestions.read() == {}


def test_ranked_once_for_each_change(world):
    world.weights(SEG)
    assert world.suggestions.refresh()
    assert not world.suggestions.refresh(), "nothing has changed"
    assert world.suggestions.read()["suggested"] == ["/s/b.nii", "/s/c.nii"]
    world.state = {"labeled": {"a": "/s/a.nii", "b": "/s/b.nii"}, "unlabeled": {"c": "/s/c.nii"}}
    assert world.suggestions.refresh()
    assert world.suggestions.read()["suggested"] == ["/s/c.nii"]
    assert [command["strategy"] for command in world.commands] == ["uncertainty_coverage"] * 2
    assert world.commands[-1]["count"] == "1"


def test_labelled_studies_are_never_among_those_to_choose_from(world):
    world.weights(SEG)
    world.suggestions.refresh()
    parts = json.loads((world.folder / "suggestions" / "studies.json").read_text())
    assert parts == {
        "training": [{"image": "/s/a.nii", "label": "/s/a.nii"}],
        "unlabeled": [{"image": "/s/b.nii"}, {"image": "/s/c.nii"}],
    }


def test_not_while_a_training_runs_and_not_without_studies(world):
    world.weights(SEG)
    world.training = True
    assert not world.suggestions.refresh()
    world.training = False
    world.state = {"labeled": {"a": "/s/a.nii"}, "unlabeled": {}}
    assert not world.suggestions.refresh()
    assert world.commands == []


def test_a_pretraining_ranks_by_coverage_until_there_is_a_segmentation(world):
    pretrained = world.weights("pre")
    assert world.suggestions.refresh()
    assert world.commands[-1]["strategy"] == "coverage"
    assert world.commands[-1]["weights"] == str(pretrained)
    assert "load_encoder" in world.commands[-1]["network"]
    trained = world.weights(SEG)
    assert world.suggestions.refresh()
    assert world.commands[-1]["weights"] == str(trained)
    assert "network" not in world.commands[-1]


def test_the_bundle_that_was_trained_last_ranks(world):
    os.utime(world.weights(SEG), (1, 1))
    os.utime(world.weights(DET), (2, 2))
    world.suggestions.refresh()
    assert world.commands[-1]["bundle_root"] == str(world.folder / DET)
    parts = json.loads((world.folder / "suggestions" / "studies.json").read_text())
    assert parts["training"] == [{"image": "/s/a.nii", "label": [], "box": []}]
    os.utime(world.folder / SEG / "models" / "model.pt", (3, 3))
    world.suggestions.refresh()
    assert world.commands[-1]["bundle_root"] == str(world.folder / SEG)


def test_a_pretraining_fits_no_detector(world):
    world.weights("pre")
    world.suggestions.bundles = [world.folder / DET]
    assert not world.suggestions.refresh()


@pytest.mark.parametrize("teacher", [True, False])
def test_student_and_teacher_disagree_where_there_are_two(world, teacher):
    run = world.folder / SEG / "models" / "runs" / "1"
    run.mkdir(parents=True)
    (run / "model.pt").touch()
    networks = {"network.a": torch.zeros(1), **({"teacher.a": torch.zeros(1)} if teacher else {})}
    torch.save({"objective": networks}, run / "resume.pt")
    assert world.suggestions.refresh()
    assert (world.commands[-1].get("student") == str(run / "resume.pt")) == teacher


def test_a_failure_is_told_once_and_the_old_ranking_stays(world, caplog):
    world.weights(SEG)
    world.suggestions.refresh()
    world.error = "Error: b.nii: cannot be read."
    world.state = {**world.state, "unlabeled": {"c": "/s/c.nii"}}
    assert not world.suggestions.refresh()
    assert not world.suggestions.refresh(), "not again and again"
    assert len(world.commands) == 2
    assert caplog.text.count("no new suggestions: Error: b.nii: cannot be read.") == 1
    assert len(world.suggestions.read()["suggested"]) == 2
    world.error = ""
    world.state = {**world.state, "labeled": {}}
    assert world.suggestions.refresh()


def test_broken_files_of_an_earlier_server_are_made_anew(world):
    world.weights(SEG)
    world.suggestions.refresh()
    (world.folder / "suggestions" / "suggestions.json").write_text("{")
    assert world.suggestions.read() == {}
    assert world.suggestions.refresh()
    (world.folder / "suggestions" / "of.json").write_text("[")
    assert world.suggestions.refresh()
