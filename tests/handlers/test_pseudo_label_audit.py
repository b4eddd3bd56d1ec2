from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, MetaTensor
from monai.inferers import SlidingWindowInferer
from sklearn.metrics import f1_score, precision_score, recall_score
from torch import Tensor, nn

from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.handlers.checkpoint import CheckpointWriter, Resume
from monai_ssl.handlers.pseudo_label_audit import PseudoLabelAudit
from monai_ssl.handlers.schedules import ScheduledWeights
from monai_ssl.handlers.teacher import TeacherUpdate
from monai_ssl.metrics.calibration import expected_calibration_error, reliability_counts
from monai_ssl.objectives.base import Batch, Objective
from monai_ssl.objectives.copy_paste import BidirectionalCopyPaste
from monai_ssl.objectives.mean_teacher import MeanTeacher
from monai_ssl.objectives.supervised import Supervised
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.schedules import constant, switch_on
from tests.helpers import same

CLASSES = ["head", "tail"]


def cases(number: int = 3) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    found = []
    for _ in range(number):
        label = torch.randint(3, (1, 8, 8, 8), generator=generator)
        found.append({"image": label + 0.5 * torch.randn(label.shape, generator=generator), "label": label})
    return found


class Stream:
    """Batch by step."""

    def __init__(self) -> None:
        self.start = 0

    def start_at(self, step: int) -> None:
        self.start = step

    def __iter__(self) -> Iterator[Any]:
        for step in range(self.start, 1000):
            chosen = cases(3)[step % 3]
            image, label = chosen["image"][None, ..., :4], chosen["label"][None, ..., :4]
            yield {"labeled": {"image": image, "label": label}, "unlabeled": {"image": image.flip(2)}}


class Loss(nn.Module):
    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, label[:, 0])


def auditing(path: Path, **arguments: Any) -> PseudoLabelAudit:
    settings: dict[str, Any] = {
        "loader": DataLoader(cases(), batch_size=2),
        "inferer": SlidingWindowInferer(roi_size=(4, 4, 4), overlap=0.25),
        "interval": 2,
        "class_names": CLASSES,
    }
    return PseudoLabelAudit(path=path / "audit.csv", **(settings | arguments))


def trainer(*handlers: Any, steps: int = 5, method: type[Objective] = MeanTeacher) -> SSLTrainer:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 6, 1), nn.BatchNorm3d(6), nn.ReLU(), nn.Dropout(0.3), nn.Conv3d(6, 3, 1))
    objective = method(network, Loss())  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=0.05)
    attached = [TeacherUpdate(), *handlers]
    return SSLTrainer("cpu", 1, Stream(), objective, optimizer, epoch_length=steps, handlers=attached)


def table(path: Path) -> list[dict[str, str]]:
    with open(path / "audit.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return found


def test_a_row_holds_the_figures_of_the_labels_that_the_teacher_makes(tmp_path: Path) -> None:
    """Of the last step, derived anew: the networks are pointwise, so windows do not matter."""
    drawn: list[tuple[Tensor, str]] = []

    class Drawer:
        def draw(self, counts: Tensor, title: str) -> None:
            drawn.append((counts, title))

    engine = trainer(auditing(tmp_path, threshold=0.42, picture=Drawer()))
    engine.run()
    images, truth = (torch.stack([case[name] for case in cases()]) for name in ("image", "label"))
    with torch.no_grad():
        objective: Any = engine.objective.eval()
        probabilities = objective.teacher(images).softmax(1)
        student = objective.network(images).argmax(1)
    confidence, predicted = probabilities.max(1)
    label, kept = truth[:, 0], confidence > 0.42
    rows = table(tmp_path)
    assert [row["step"] for row in rows] == ["2", "4", "5"]
    found = {name: float(cell) for name, cell in rows[-1].items()}
    assert 0.1 < float(kept.double().mean()) < 0.9
    assert found["kept"] == pytest.approx(float(kept.double().mean()))
    assert found["kept_foreground"] == pytest.approx(float(kept[predicted > 0].double().mean()))
    for number, name in enumerate(CLASSES, start=1):
        precision = precision_score(label[kept] == number, predicted[kept] == number)
        recall = recall_score(label.flatten() == number, (kept & (predicted == number)).flatten())
        assert found[f"precision_{name}"] == pytest.approx(precision)
        assert found[f"recall_{name}"] == pytest.approx(recall)
        assert found[f"confidence_{name}"] == pytest.approx(float(confidence[predicted == number].mean()), rel=1e-5)
    counts = reliability_counts(probabilities, truth)
    assert found["ece"] == pytest.approx(expected_calibration_error(counts), abs=1e-6)
    assert found["ece_foreground"] == pytest.approx(expected_calibration_error(counts[1:]), abs=1e-6)
    agreement = f1_score(predicted.flatten(), student.flatten(), labels=[1, 2], average="macro")
    assert found["agreement"] == pytest.approx(agreement)
    assert found["confidence"] == pytest.approx(float(confidence.mean()), rel=1e-5)
    assert engine.state.metrics == {name: value for name, value in found.items() if name != "step"}
    assert [title for _, title in drawn] == ["Step 2", "Step 4", "Step 5"]
    assert torch.allclose(drawn[-1][0], counts, atol=1e-3)


def test_one_network_agrees_with_nobody_and_keeps_all(tmp_path: Path) -> None:
    trainer(auditing(tmp_path), method=Supervised).run()
    assert [(row["kept"], row["agreement"]) for row in table(tmp_path)] == [("1.0", "")] * 3


def test_a_method_names_its_labeler_learner_and_threshold(tmp_path: Path) -> None:
    class Swapped(MeanTeacher):
        label_threshold = 0.6

        @property
        def labeler(self) -> nn.Module:
            return self.network

        @property
        def learner(self) -> nn.Module:
            return self.teacher

    asked: list[nn.Module] = []

    def inferer(image: Tensor, network: nn.Module) -> Tensor:
        asked.append(network)
        return network(image)  # type: ignore[no-any-return]

    one_batch = DataLoader(cases(), batch_size=3)
    swapped = trainer(auditing(tmp_path, loader=one_batch, inferer=inferer, interval=5), method=Swapped)
    swapped.run()
    network, teacher = swapped.objective.network, swapped.objective.teacher
    assert len(asked) == 2
    assert asked[0] is network
    assert asked[1] is teacher
    assert 0.0 < float(table(tmp_path)[0]["kept"]) < 1.0
    trainer(auditing(tmp_path, loader=one_batch, inferer=inferer, interval=5, threshold=0.0), method=Swapped).run()
    assert float(table(tmp_path)[0]["kept"]) == 1.0


def test_the_run_is_not_disturbed(tmp_path: Path) -> None:
    """The trainer seeds every step, so the random state is compared between the steps too."""

    def run(*handlers: Any) -> Any:
        engine, seen = trainer(*handlers), []
        engine.objective.network[1].eval()

        @engine.on(Events.ITERATION_COMPLETED)
        def remember(engine: Any) -> None:
            seen.append((torch.get_rng_state(), [module.training for module in engine.objective.modules()]))

        engine.run()
        return engine.objective.state_dict(), seen

    # a loader without a generator of its own draws from torch's
    assert same(run(), run(auditing(tmp_path, interval=1)))


def test_a_resumed_run_ends_with_the_same_file(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()

    def run(folder: Path, resume: bool, stop: int | None = None) -> None:
        engine = trainer(
            Resume(folder / "resume.pt", {}, enabled=resume),
            auditing(folder, threshold=0.9),
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
    assert [row["step"] for row in table(parts)] == ["2", "4"]
    with pytest.raises(KeyboardInterrupt):
        run(parts, resume=True, stop=4)
    assert [row["step"] for row in table(parts)] == ["2"]
    run(parts, resume=True)
    assert [row["step"] for row in table(whole)] == ["2", "4", "6", "8"]
    assert (parts / "audit.csv").read_bytes() == (whole / "audit.csv").read_bytes()


def test_a_new_run_starts_a_new_table_and_a_lost_one_goes_on(tmp_path: Path) -> None:
    (tmp_path / "audit.csv").write_text("step,other\n1,1\n")
    trainer(auditing(tmp_path)).run()
    assert [row["step"] for row in table(tmp_path)] == ["2", "4", "5"]
    (tmp_path / "audit.csv").unlink()
    engine = trainer(auditing(tmp_path))
    engine.load_state_dict({"iteration": 3, "max_epochs": 1, "epoch_length": 5})
    engine.run()
    assert [row["step"] for row in table(tmp_path)] == ["4", "5"]


# Alarms: a network whose answers, and an objective whose terms, follow a script.

LINE = torch.tensor([0] * 80 + [1] * 10 + [2] * 10)[None, :, None, None]


class Scripted(nn.Module):
    """Probabilities of a line of 80 background voxels, 10 of the head, 10 of the tail."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.answer = Tensor()

    def say(self, confidence: float, right: int, wrong: int) -> None:
        """``right`` head voxels found and ``wrong`` background voxels called head, all with this confidence."""
        chosen = torch.zeros(100, dtype=torch.int64)
        chosen[90:], chosen[80 : 80 + right], chosen[:wrong] = 2, 1, 1
        sure = torch.where(chosen == 1, confidence, 0.99)
        self.answer = torch.stack([torch.where(chosen == k, sure, (1 - sure) / 2) for k in range(3)])

    def forward(self, image: Tensor) -> Tensor:
        return self.answer.log()[None, :, :, None, None].expand(len(image), -1, -1, -1, -1)


class Terms(Objective):
    def __init__(self, network: nn.Module, weight: float, values: Sequence[float]) -> None:
        super().__init__(network, {"consistency": weight})
        self.values = iter(values)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        unused: Any = self.network.unused
        return {"supervised": 0.0 * unused, "consistency": unused + next(self.values)}


def scripted(
    path: Path,
    answers: Sequence[tuple[float, int, int]],
    terms: Sequence[float] | None = None,
    weight: float = 1.0,
    resume_after: int = 0,
    **arguments: Any,
) -> None:
    """A run whose network says this at steps 1, 2, ..; every step is audited."""
    network, steps = Scripted(), len(answers)
    objective = Terms(network, weight, terms or [1.0] * steps)
    engine = SSLTrainer("cpu", 1, Stream(), objective, torch.optim.SGD(network.parameters(), 0.0), epoch_length=steps)

    @engine.on(Events.ITERATION_COMPLETED)
    def follow(engine: Any) -> None:
        network.say(*answers[engine.state.iteration - 1])

    settings: dict[str, Any] = {
        "interval": 1,
        "loader": [{"image": torch.zeros(1, 1, 100, 1, 1), "label": LINE[None]}],
        "inferer": lambda image, network: network(image),
    }
    auditing(path, **(settings | arguments)).attach(engine)
    if resume_after:
        engine.load_state_dict({"iteration": resume_after, "max_epochs": 1, "epoch_length": steps})
    engine.run()


GOOD = (0.9, 9, 1)


def test_a_term_at_zero_is_told_once_each_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    zero = [0.0] * 4
    terms = [1.0, *zero, *zero, 0.5, *zero[:2], 0.5, *zero, -0.0]
    scripted(tmp_path, [GOOD] * len(terms), terms, idle_steps=3)
    told = warnings(caplog)
    assert [message.split(":")[0] for message in told] == ["step 4", "step 16"]
    assert "the term consistency has been exactly 0 for 3 steps at a weight of 1" in told[0]


@pytest.mark.parametrize(("weight", "value"), [(0.0, 0.0), (1.0, 1e-30)])
def test_a_term_without_weight_and_a_small_one_are_not_told(
    weight: float, value: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scripted(tmp_path, [GOOD] * 6, [value] * 6, weight, idle_steps=3)
    assert warnings(caplog) == []


def test_a_phase_without_a_term_is_told_unless_its_weight_is_zero(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    schedules = {"idle": partial(constant, value=0.5), "off": partial(switch_on, length=4, maximum=0.5)}
    told, ends = {}, {}
    for name, schedule in schedules.items():
        handlers = [ScheduledWeights({"pseudo": schedule}), auditing(tmp_path, interval=8, idle_steps=3)]
        engine = trainer(*handlers, steps=8, method=partial(BidirectionalCopyPaste, warmup=0.5))  # type: ignore[arg-type]
        engine.run()
        told[name] = [message for message in warnings(caplog) if "exactly 0" in message]
        ends[name] = engine.objective.state_dict()
    assert [message.split(":")[0] for message in told["idle"]] == ["step 3"]
    assert told["off"] == []
    assert same(ends["idle"], ends["off"])


def test_a_class_that_vanishes_is_told_at_once_and_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    answers = [GOOD, (0.9, 0, 0), (0.9, 0, 0), GOOD, (0.5, 9, 0), (0.5, 9, 0)] + [GOOD] * 30
    scripted(tmp_path, answers, threshold=0.8)
    told = warnings(caplog)
    assert [message.split(":")[0] for message in told] == ["step 2", "step 5"]
    assert "no pseudo-label of the class head" in told[0]
    assert "(no voxel is predicted so; step 1 was the last with any)" in told[0]
    assert (
        "predicted with a mean confidence of 0.50, nowhere above the threshold of 0.8; step 4 was the last" in told[1]
    )
    assert table(tmp_path)[1]["precision_head"] == table(tmp_path)[1]["confidence_head"] == ""
    scripted(tmp_path, answers, threshold=0.8, resume_after=2)
    assert [message.split(":")[0] for message in warnings(caplog)] == ["step 5"]


def test_a_class_that_never_was_is_told_after_a_quarter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scripted(tmp_path, [(0.9, 0, 0)] * 20)
    told = warnings(caplog)
    assert [message.split(":")[0] for message in told] == ["step 5"]
    assert "there never was any" in told[0]


def test_a_class_that_no_label_has_is_not_missed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    label = LINE[None] * (LINE[None] != 1)
    scripted(tmp_path, [(0.9, 0, 0)] * 8, loader=[{"image": torch.zeros(1, 1, 100, 1, 1), "label": label}])
    assert warnings(caplog) == []
    assert {row["recall_head"] for row in table(tmp_path)} == {""}


@pytest.mark.parametrize(
    ("answers", "steps"),
    [
        # surer and worse; on and on; better again; worse again
        ([GOOD, (0.97, 9, 3), (0.98, 9, 5), (0.97, 9, 1), (0.99, 9, 4)], ["step 2", "step 5"]),
        ([GOOD, (0.94, 9, 3)], []),  # worse, and not so sure
        ([GOOD, (0.97, 9, 1), (0.99, 9, 1)], []),  # surer, and as good
        ([(0.98, 9, 1), (0.96, 9, 3)], []),  # worse, and less sure than before
        ([(0.9, 3, 0), (0.97, 9, 3)], []),  # the first labels were better, but few
        ([(0.9, 9, 0), (0.97, 10, 1)], []),  # with more recall
    ],
)
def test_surer_and_worse(
    answers: list[Any], steps: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scripted(tmp_path, answers, fall=0.1 if answers[-1] == (0.97, 10, 1) else 0.05)
    told = warnings(caplog)
    assert [message.split(":")[0] for message in told] == steps
    if told:
        assert "the class head grow surer and worse: mean confidence 0.970, precision 0.750, recall 0.900" in told[0]
        assert "at step 1 0.900, 0.900, 0.900" in told[0]


def test_an_own_limit_for_confidence_and_fall(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scripted(tmp_path, [(0.6, 9, 1), (0.7, 9, 3)], confident=0.7)
    assert len(warnings(caplog)) == 0  # 0.7 in float32 is below 0.7
    scripted(tmp_path, [(0.6, 9, 1), (0.7, 9, 3)], confident=0.65)
    assert len(warnings(caplog)) == 1
    scripted(tmp_path, [(0.6, 9, 1), (0.7, 9, 3)], confident=0.65, fall=0.2)
    assert len(warnings(caplog)) == 0


def named(label: Any) -> list[dict[str, Any]]:
    image = MetaTensor(torch.zeros(1, 1, 8, 8, 8), meta={"filename_or_obj": ["/data/scan_7.nii.gz"]})
    return [{"image": image, "label": label}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loader": []}, "labelled validation cases, and there is none"),
        ({"loader": [{"image": torch.zeros(1, 1, 8, 8, 8)}]}, "case without a file name: .* must have label"),
        ({"loader": named(torch.full((1, 1, 8, 8, 8), 5))}, r"scan_7.nii.gz: `labels` must be .* from 0 to 2, got 5"),
        ({"loader": named(torch.zeros(1, 1, 8, 8, 4))}, r"scan_7.nii.gz: `labels` must be \(B, 1, H, W"),
        ({"class_names": ["head"]}, "answers with 3 classes, background included, and `class_names` has 1 .*: head"),
    ],
)
def test_cases_that_cannot_be_audited(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        trainer(auditing(tmp_path, **arguments)).run()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"interval": 0}, "`interval` must be at least 1 step, got 0"),
        ({"idle_steps": 0}, "`idle_steps` must be at least 1 step, got 0"),
        ({"threshold": 1.3}, r"`threshold` must be in \[0, 1\), got 1.3"),
        ({"confident": math.nan}, r"`confident` must be in \[0, 1\), got nan"),
        ({"fall": 0.0}, r"`fall` must be in \(0, 1\], got 0.0"),
    ],
)
def test_arguments(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        auditing(tmp_path, **arguments)
