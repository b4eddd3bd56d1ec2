from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, MetaTensor
from monai.networks.nets import UNet
from torch import Tensor, nn

from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.handlers.checkpoint import CheckpointWriter, Resume
from monai_ssl.handlers.embedding_watch import EmbeddingWatch
from monai_ssl.metrics.embeddings import effective_rank, feature_spread, nearest_neighbour_accuracy
from monai_ssl.networks.encoder import EncoderTaps, encode
from monai_ssl.networks.heads import ClassificationHead, ProjectionHead
from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.objectives.base import Batch, Objective
from monai_ssl.objectives.multitask import Multitask
from monai_ssl.objectives.transform_class import TransformClass
from monai_ssl.objectives.view_invariance import RegularizedViews
from monai_ssl.utils.errors import UserError
from tests.helpers import same
from tests.objectives.pretext import images

CASES = [{"image": image, "label": number % 2, "patient": f"p{number // 2}"} for number, image in enumerate(images(12))]


def loader(cases: Any = CASES, batch_size: int = 5) -> DataLoader:
    return DataLoader(cases, batch_size=batch_size)


class Stream:
    """Batch by step, of pairs of views that differ in noise."""

    def __init__(self) -> None:
        self.start = 0

    def start_at(self, step: int) -> None:
        self.start = step

    def __iter__(self) -> Iterator[dict[str, Any]]:
        step = self.start
        while True:
            generator = torch.Generator().manual_seed(step)
            chosen = images(12)[torch.randperm(12, generator=generator)[:4], None]
            views = chosen + 0.3 * torch.randn(4, 2, *chosen.shape[2:], generator=generator)
            turned = torch.arange(4) % 2
            rotated = torch.where(turned.bool()[:, None, None, None, None], chosen[:, 0].flip(2), chosen[:, 0])
            yield {"unlabeled": {"image": views, "rotated": rotated, "rotation": turned}}
            step += 1


def trainer(*handlers: Any, steps: int = 5, task: str = "views", rate: float = 1e-2) -> SSLTrainer:
    torch.manual_seed(0)
    bare = UNet(3, 1, 1, channels=[4, 8], strides=[2], dropout=0.2, norm=("instance", {"affine": True}))
    shapes = [(4, 4, 4, 4), (8, 4, 4, 4)]
    views = task == "views"
    heads = {"projection": ProjectionHead(shapes, 8)} if views else {"rotation": ClassificationHead(shapes, 2)}
    tasks = [RegularizedViews() if views else TransformClass(image="rotated")]
    weights = {"variance": 0.0, "covariance": 0.0} if views else {}
    objective = Multitask(PretextNetwork(bare, heads), tasks, weights)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=rate)
    watches = [handler if hasattr(handler, "attach") else handler(objective.network) for handler in handlers]
    return SSLTrainer("cpu", 1, Stream(), objective, optimizer, epoch_length=steps, handlers=watches)


def watching(path: Path, **arguments: Any) -> Any:
    settings: dict[str, Any] = {"loader": loader(), "interval": 2} | arguments
    return lambda network: EmbeddingWatch(network, path=path / "embeddings.csv", **settings)


def table(path: Path) -> list[dict[str, str]]:
    with open(path / "embeddings.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def features(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return encode(network.eval(), torch.stack([case["image"] for case in CASES]))[-1].mean((2, 3, 4))


def test_a_row_at_the_start_every_interval_and_at_the_end(tmp_path: Path) -> None:
    engine = trainer(watching(tmp_path, label="label", group="patient"))
    untrained = features(engine.objective.deployed)
    engine.run()
    vectors = engine.objective.network.eval()(torch.stack([case["image"] for case in CASES]))["projection"]
    rows = table(tmp_path)
    assert [row["step"] for row in rows] == ["0", "2", "4", "5"]
    patients = [number // 2 for number in range(12)]
    for row, expected in ((rows[0], untrained), (rows[-1], features(engine.objective.deployed))):
        assert float(row["feature_spread"]) == pytest.approx(feature_spread(expected), rel=1e-4)
        assert float(row["effective_rank"]) == pytest.approx(effective_rank(expected), rel=1e-4)
        accuracy = nearest_neighbour_accuracy(expected, [0, 1] * 6, 5, patients)
        assert float(row["knn_accuracy"]) == pytest.approx(accuracy)
    assert float(rows[-1]["projection_spread"]) == pytest.approx(feature_spread(vectors), rel=1e-4)
    assert engine.state.metrics == {name: float(value) for name, value in rows[-1].items() if name != "step"}


def test_without_labels_there_is_no_accuracy_and_more_cases_are_not_read(tmp_path: Path) -> None:
    read: list[int] = []

    class Counting(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            read.append(index)
            return super().__getitem__(index)

    engine = trainer(watching(tmp_path, loader=loader(Counting(CASES)), cases=7))
    engine.run()
    assert list(table(tmp_path)[0]) == ["step", "feature_spread", "effective_rank", "projection_spread"]
    assert read == list(range(10))
    assert float(table(tmp_path)[-1]["feature_spread"]) == pytest.approx(
        feature_spread(features(engine.objective.deployed)[:7]), rel=1e-4
    )


def test_the_run_is_not_disturbed(tmp_path: Path) -> None:
    """The trainer seeds every step, so the random state is compared between the steps too."""

    def run(*handlers: Any) -> Any:
        engine, seen = trainer(*handlers), []
        for event in (Events.EPOCH_STARTED, Events.ITERATION_COMPLETED):
            engine.add_event_handler(event, lambda engine: seen.append(torch.get_rng_state()))
        modes: list[list[bool]] = []

        @engine.on(Events.ITERATION_COMPLETED)
        def remember(engine: Any) -> None:
            modes.append([module.training for module in engine.objective.modules()])

        engine.run()
        return engine.objective.state_dict(), seen, modes

    assert same(run(), run(watching(tmp_path, interval=1)))


def test_modules_in_evaluation_mode_stay_there(tmp_path: Path) -> None:
    modes: list[Any] = []

    class Freeze:
        def attach(self, engine: Any) -> None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: e.objective.deployed.model[0].eval())

    class Remember:
        def attach(self, engine: Any) -> None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.remember)

        def remember(self, engine: Any) -> None:
            modes.append((engine.objective.deployed.model[0].training, engine.objective.deployed.model[1].training))

    trainer(Freeze(), watching(tmp_path, interval=1), Remember(), steps=2).run()
    assert modes == [(False, True)] * 2


def test_a_resumed_run_ends_with_the_same_file(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()

    def run(folder: Path, resume: bool, stop: int | None = None) -> None:
        engine = trainer(
            Resume(folder / "resume.pt", {}, enabled=resume),
            watching(folder, label="label"),
            CheckpointWriter(folder / "resume.pt", {}, interval=3),
            steps=8,
        )

        @engine.on(Events.ITERATION_STARTED)
        def kill(engine: Any) -> None:
            if engine.state.iteration == stop:
                raise KeyboardInterrupt

        engine.run()

    run(whole, resume=False)
    with pytest.raises(KeyboardInterrupt):
        run(parts, resume=False, stop=6)
    assert [row["step"] for row in table(parts)] == ["0", "2", "4"]
    with pytest.raises(KeyboardInterrupt):
        run(parts, resume=True, stop=4)
    assert [row["step"] for row in table(parts)] == ["0", "2"]
    run(parts, resume=True)
    assert (parts / "embeddings.csv").read_bytes() == (whole / "embeddings.csv").read_bytes()


def test_a_new_run_starts_a_new_table_and_a_lost_one_goes_on(tmp_path: Path) -> None:
    (tmp_path / "embeddings.csv").write_text("step,other\n0,1\n")
    trainer(watching(tmp_path)).run()
    assert [row["step"] for row in table(tmp_path)] == ["0", "2", "4", "5"]
    (tmp_path / "embeddings.csv").unlink()
    engine = trainer(watching(tmp_path, collapse=0.99))
    engine.load_state_dict({"iteration": 3, "max_epochs": 1, "epoch_length": 5})
    engine.run()
    assert [row["step"] for row in table(tmp_path)] == ["4", "5"]


def test_a_run_resumed_with_labels_gains_a_column(tmp_path: Path) -> None:
    trainer(watching(tmp_path)).run()
    engine = trainer(watching(tmp_path, label="label"))
    engine.load_state_dict({"iteration": 3, "max_epochs": 1, "epoch_length": 5})
    engine.run()
    assert [bool(row["knn_accuracy"]) for row in table(tmp_path)] == [False, False, True, True]


class Offset(nn.Module):
    """Features are a case's own ones, scaled, beside a common one."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.maps = nn.Identity()

    def encoder_taps(self) -> EncoderTaps:
        return EncoderTaps([self.maps], parts=[self.scale])  # type: ignore[list-item]

    def forward(self, image: Tensor) -> Tensor:
        own = image.flatten(1)[:, :6, None, None, None] * self.scale
        result: Tensor = self.maps(torch.cat([own, torch.ones_like(own[:, :1])], 1))
        return result


class Idle(Objective):
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        scale: Any = self.network.scale
        return {"nothing": 0.0 * scale}


def scripted(path: Path, scales: list[float], resume_after: int = 0, **arguments: Any) -> None:
    """A run whose network has these scales at steps 1, 2, ..; 1 at step 0."""
    network = Offset()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    engine = SSLTrainer("cpu", 1, Stream(), Idle(network), optimizer, epoch_length=len(scales))

    @engine.on(Events.ITERATION_COMPLETED)
    def follow(engine: Any) -> None:
        with torch.no_grad():
            network.scale.fill_(scales[engine.state.iteration - 1])

    watching(path, **({"interval": 1} | arguments))(network).attach(engine)
    if resume_after:
        engine.load_state_dict({"iteration": resume_after, "max_epochs": 1, "epoch_length": len(scales)})
    engine.run()


def test_a_collapse_is_told_once_each_time_it_begins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scripted(tmp_path, [0.9, 0.01, 0.01, 0.001, 1.0, 0.01, 0.01])
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message.split(":")[0] for message in told] == ["step 2", "step 6"]
    assert "the encoder's features collapse" in told[0]
    assert "at step 0" in told[0]
    caplog.clear()
    scripted(tmp_path, [0.9, 0.01, 0.01, 0.001, 1.0, 0.01, 0.01], resume_after=3)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message.split(":")[0] for message in told] == ["step 6"]


@pytest.mark.parametrize(("full", "told"), [(6.0, 1), (2.0, 0)])
def test_features_on_a_line_are_a_collapse_unless_there_never_were_more(
    full: float, told: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = iter([full, 1.2, 1.2])
    monkeypatch.setattr("monai_ssl.handlers.embedding_watch.effective_rank", lambda features: next(ranks))
    scripted(tmp_path, [1.0, 1.0])
    assert len(caplog.records) == told


def test_neighbours_at_chance_are_told_from_the_middle_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scripted(tmp_path, [1.0] * 6, label="label")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert told[0].startswith("step 3: the nearest neighbours of a labelled case")
    assert "0.500 by always naming the commonest class" in told[0]
    caplog.clear()
    classes = [{"image": torch.full((1, 8, 8, 8), 1.0 if n % 2 else -1.0), "label": n % 2} for n in range(12)]
    scripted(tmp_path, [1.0] * 6, label="label", loader=loader(classes))
    assert table(tmp_path)[-1]["knn_accuracy"] == "1.0"
    assert not [record for record in caplog.records if "chance" in record.getMessage()]


@pytest.mark.parametrize(("task", "told"), [("views", 1), ("rotation", 0)])
def test_training_without_a_term_against_it_collapses(
    task: str, told: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer(watching(tmp_path, interval=20), steps=120, task=task).run()
    assert len([r for r in caplog.records if "the head projection collapse" in r.getMessage()]) == told
    assert len(caplog.records) == told


def test_a_bare_network_has_no_heads(tmp_path: Path) -> None:
    engine = trainer()
    watching(tmp_path)(engine.objective.deployed).attach(engine)
    engine.run()
    expected = feature_spread(features(engine.objective.deployed))
    assert list(table(tmp_path)[0]) == ["step", "feature_spread", "effective_rank"]
    assert float(table(tmp_path)[-1]["feature_spread"]) == pytest.approx(expected, rel=1e-4)


def test_metadata_and_a_plain_list_of_batches(tmp_path: Path) -> None:
    batches = [{"image": MetaTensor(torch.stack([case["image"] for case in CASES]))}]
    trainer(watching(tmp_path, loader=batches)).run()
    expected = table(tmp_path)
    trainer(watching(tmp_path, loader=loader(batch_size=12))).run()
    assert table(tmp_path) == expected


@pytest.mark.parametrize(
    ("cases", "arguments", "message"),
    [
        (CASES[:1], {}, "two cases at least, got 1"),
        (CASES, {"label": "grade"}, "have no entry 'grade'; they have image, label, patient"),
        (CASES, {"label": "patient"}, "the entry 'patient' .* must be a whole number, got p0"),
        (CASES, {"label": "image"}, "the entry 'image' .* must be a whole number"),
        (CASES[::2], {"label": "label"}, "two classes, and two patients, at least"),
        (CASES[:2], {"label": "label", "group": "patient"}, "two classes, and two patients, at least"),
    ],
)
def test_cases_that_cannot_be_watched(
    cases: list[Any], arguments: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        trainer(watching(tmp_path, loader=loader(cases), **arguments)).run()


def test_features_that_are_no_numbers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="features are not finite after step 1: check the scans"):
        scripted(tmp_path, [float("nan")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"interval": 0}, "`interval` must be at least 1, got 0"),
        ({"cases": 1}, "`cases` must be at least 2, got 1"),
        ({"k": 0}, "`k` must be at least 1, got 0"),
        ({"collapse": 1.0}, r"`collapse` must be in \[0, 1\), got 1.0"),
        ({"head_collapse": -0.1}, r"`head_collapse` must be in \[0, 1\), got -0.1"),
    ],
)
def test_arguments(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        watching(tmp_path, **arguments)(Offset())
