from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import Dataset
from monai.transforms import RandGaussianNoised
from safetensors.torch import load_file
from torch import Tensor, nn

from monai_ssl.data.two_stream import TwoStreamLoader
from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.handlers import checkpoint
from monai_ssl.handlers.checkpoint import CheckpointWriter, ModelWriter, Resume, fingerprint_difference, read_checkpoint
from monai_ssl.handlers.schedules import ScheduledLearningRate, ScheduledWeights
from monai_ssl.handlers.teacher import TeacherUpdate
from monai_ssl.networks.teacher import copy_student, make_teacher, update_average
from monai_ssl.objectives.base import Batch, Objective
from monai_ssl.utils.errors import UserError
from tests import helpers


class Toy(Objective):
    """One term a stream, with dropout, and a teacher."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 1)), {"agree": 0.5})
        self.teacher = make_teacher(self.network)

    @property
    def deployed(self) -> nn.Module:
        return self.teacher

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        u = batch["unlabeled"]["image"]
        return {
            "fit": ((self.network(batch["labeled"]["image"]) - 1) ** 2).mean(),
            "agree": ((self.network(u) - self.teacher(u + 0.1 * torch.randn_like(u)).detach()) ** 2).mean(),
        }

    def reset_teacher(self) -> None:
        copy_student(self.teacher, self.network)

    def update_teacher(self, step: int) -> None:
        update_average(self.teacher, self.network, min(1 - 1 / (step + 1), 0.9))


def trainer(*handlers: Any, steps: int = 12, epoch_length: int = 4, **arguments: Any) -> SSLTrainer:
    torch.manual_seed(0)
    objective = Toy()
    noise = RandGaussianNoised("image", prob=0.7, std=0.3)
    cases = [{"image": torch.full((3,), float(index))} for index in range(5)]
    return SSLTrainer(
        "cpu",
        steps // epoch_length,
        TwoStreamLoader(*(Dataset(part, noise) for part in (cases[:3], cases)), 2, 3, seed=1),
        objective,
        torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=0.01),
        epoch_length,
        seed=1,
        handlers=handlers,
        **arguments,
    )


PRINT = {"seed": "1", "network": "small"}


def run(folder: Path, resume: bool = False, stop: int | None = None, interval: int = 3, **arguments: Any) -> SSLTrainer:
    folder.mkdir(exist_ok=True)
    engine = trainer(
        Resume(folder / "resume.pt", arguments.pop("fingerprint", PRINT), resume),
        TeacherUpdate(),
        ScheduledWeights({"agree": lambda step: step / 10}),
        ScheduledLearningRate(lambda step: 1 / (step + 1)),
        ModelWriter([folder / "model.pt"]),
        CheckpointWriter(folder / "resume.pt", arguments.pop("written", PRINT), interval),
        **arguments,
    )
    if stop is not None:

        @engine.on(Events.ITERATION_STARTED)
        def kill(engine: Any) -> None:
            if engine.state.iteration == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            engine.run()
    else:
        engine.run()
    return engine


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SSLTrainer:
    return run(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("stop", [4, 6, 9, 12])
def test_a_resumed_run_equals_an_uninterrupted_one(stop: int, amp: bool, tmp_path: Path) -> None:
    reference = run(tmp_path / "whole", amp=amp)
    run(tmp_path / "parts", stop=stop, amp=amp)
    assert read_checkpoint(tmp_path / "parts" / "resume.pt")["iteration"] == (stop - 1) // 3 * 3
    torch.rand(3)
    resumed = run(tmp_path / "parts", resume=True, amp=amp)
    assert resumed.state.iteration == 12
    assert resumed.state.epoch == 3
    assert helpers.same(resumed.objective.state_dict(), reference.objective.state_dict())
    assert helpers.same(resumed.optimizer.state_dict(), reference.optimizer.state_dict())
    assert torch.equal(resumed.state.output["loss"], reference.state.output["loss"])
    assert resumed.objective.weights == reference.objective.weights
    both = [torch.load(tmp_path / part / "model.pt", weights_only=True) for part in ("whole", "parts")]
    assert helpers.same(*both)


def test_interrupted_twice(tmp_path: Path, whole: SSLTrainer) -> None:
    run(tmp_path, stop=5, interval=2)
    run(tmp_path, resume=True, stop=10, interval=2)
    assert helpers.same(run(tmp_path, resume=True).objective.state_dict(), whole.objective.state_dict())


def test_a_finished_run_is_not_extended(tmp_path: Path) -> None:
    run(tmp_path)
    before = torch.load(tmp_path / "model.pt", weights_only=True)
    again = run(tmp_path, resume=True)
    assert again.state.iteration == 12
    assert helpers.same(torch.load(tmp_path / "model.pt", weights_only=True), before)


def test_the_files_hold_tensors_and_plain_values_and_share_nothing(tmp_path: Path) -> None:
    engine = run(tmp_path)
    state = torch.load(tmp_path / "resume.pt", weights_only=True)
    assert state["fingerprint"] == PRINT
    assert (state["iteration"], state["max_epochs"], state["epoch_length"]) == (12, 3, 4)
    assert {name: type(weight) for name, weight in state["weights"].items()} == {"agree": float}
    addresses = [value.untyped_storage().data_ptr() for value in state["objective"].values()]
    assert len(set(addresses)) == len(addresses) == 8
    model = torch.load(tmp_path / "model.pt", weights_only=True)
    assert list(model) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert helpers.same(dict(model), dict(engine.objective.teacher.state_dict()))


def test_a_finished_checkpoint_has_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, int]] = []
    save = checkpoint.save_torch

    def watch(content: Any, path: Path) -> None:
        written.append((path.name, content.get("iteration", -1)))
        assert content.get("iteration") != 12 or (tmp_path / "model.pt").is_file()
        save(content, path)

    monkeypatch.setattr(checkpoint, "save_torch", watch)
    run(tmp_path)
    assert written == [("resume.pt", 3), ("resume.pt", 6), ("resume.pt", 9), ("model.pt", -1), ("resume.pt", 12)]


def test_a_run_that_is_stopped_writes_its_last_step(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path / "resume.pt", PRINT, 100)
    engine = trainer(writer)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=5), lambda e: e.terminate())
    engine.run()
    assert read_checkpoint(tmp_path / "resume.pt")["iteration"] == 5


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    run(tmp_path)
    engine_print = {"seed": "2", "loss": "dice"}
    message = (
        r"resume\.pt: belongs to other settings: loss was \(none\), is now dice; network was small, is now \(none\); "
        r"seed was 1, is now 2\. Give the old values, or another output_dir\."
    )
    with pytest.raises(UserError, match=message):
        run(tmp_path, resume=True, fingerprint=engine_print)
    assert read_checkpoint(tmp_path / "resume.pt")["fingerprint"] == PRINT


def test_fingerprints_that_are_equal_differ_in_nothing() -> None:
    assert fingerprint_difference(PRINT, dict(reversed(PRINT.items()))) == ""


def test_without_the_switch_nothing_is_read(tmp_path: Path, whole: SSLTrainer) -> None:
    (tmp_path / "resume.pt").write_bytes(b"broken")
    assert helpers.same(run(tmp_path).objective.state_dict(), whole.objective.state_dict())


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "list", "model", "format"])
def test_a_file_that_cannot_be_resumed_is_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "resume.pt"
    torch.save({"format": 99}, path)
    whole = path.read_bytes()
    if damage in ("empty", "cut", "text"):
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"nothing\n" * 9}[damage])
    elif damage in ("list", "model"):
        torch.save({"list": [1], "model": {"weight": torch.ones(1)}}[damage], path)
    with pytest.raises(UserError, match=r"resume\.pt: is no checkpoint .* can resume \(.+\)\. Start with"):
        run(tmp_path, resume=True)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"resume\.pt: there is no checkpoint to resume\. Leave out --resume true"):
        run(tmp_path, resume=True)


def test_the_scaler_goes_on_and_one_that_was_off_does_not_stop_a_resumption(tmp_path: Path) -> None:
    path = tmp_path / "resume.pt"
    engine = trainer(CheckpointWriter(path, PRINT, 4), steps=4)
    engine.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)
    engine.run()
    second = trainer(Resume(path, PRINT))
    second.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    second._fire_event(Events.STARTED)
    assert second.scaler.get_scale() == 256.0
    trainer(CheckpointWriter(path, PRINT, 4), steps=4).run()  # as on a CPU, where nothing is scaled
    third = trainer(Resume(path, PRINT))
    third.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    third._fire_event(Events.STARTED)
    assert third.state.iteration == 4


def test_an_interval_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`interval` must be at least 1 step, got 0\."):
        CheckpointWriter(tmp_path / "resume.pt", PRINT, 0)


def test_the_same_weights_are_written_as_safetensors_before_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    model = torch.load(tmp_path / "model.pt", weights_only=True)
    assert helpers.same(load_file(tmp_path / "model.safetensors"), dict(model))
    written: list[str] = []
    monkeypatch.setattr(checkpoint, "save_torch", lambda content, path: written.append(path.name))
    monkeypatch.setattr(checkpoint, "save_safetensors", lambda content, path: written.append(path.name))
    engine = trainer()
    ModelWriter([tmp_path / "a" / "model.pt", tmp_path / "b" / "model.pt"])._save(engine)
    assert written == ["model.safetensors", "model.pt"] * 2


def test_a_checkpoint_with_other_content_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / "resume.pt"
    state = torch.load(path, weights_only=True)
    for name in ("objective", "optimizer", "iteration", "scaler"):
        torch.save({**state, name: "other"}, path)
        with pytest.raises(UserError, match=rf"resume\.pt: .*{name} is missing or broken.*Start with --overwrite true"):
            run(tmp_path, resume=True)
    for name, content in {"objective": {}, "optimizer": {"state": 1}, "weights": {"agree": "x"}}.items():
        torch.save({**state, name: content}, path)
        with pytest.raises(UserError, match=r"resume\.pt: does not fit this run.* Restore it, or start anew"):
            run(tmp_path, resume=True)
