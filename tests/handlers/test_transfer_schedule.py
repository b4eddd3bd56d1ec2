from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed
from ignite.engine import Events
from monai.data import Dataset
from monai.engines.utils import IterationEvents
from monai.networks.nets import UNet
from monai.transforms import RandGaussianNoised
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from monai_ssl.data.two_stream import TwoStreamLoader
from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.handlers.checkpoint import CheckpointWriter, Resume
from monai_ssl.handlers.schedules import ScheduledLearningRate
from monai_ssl.handlers.teacher import TeacherUpdate
from monai_ssl.handlers.transfer_schedule import TransferSchedule
from monai_ssl.networks.encoder import encoder_keys
from monai_ssl.networks.teacher import copy_student, make_teacher, update_average
from monai_ssl.objectives.base import Batch, Objective
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.schedules import constant, polynomial_decay
from monai_ssl.utils.seeding import seed_torch
from monai_ssl.utils.transfer_schedule import TRANSFER_MODES, TransferStage, transfer_rate, transfer_stages
from tests.helpers import same


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs, affine=False), nn.Dropout(0.3), nn.ReLU())


class Network(nn.Module):
    """A new input layer, an encoder, a decoder whose first block is pretrained, too, and a new head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 3)
        self.whiten = nn.BatchNorm1d(3, affine=False)
        self.encoder = nn.Sequential(block(3, 6), nn.BatchNorm1d(6), block(6, 6))
        self.decoder = nn.ModuleList([block(6, 5), nn.Dropout(0.2), nn.Linear(5, 1)])

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.encoder(self.whiten(self.stem(images)))
        for part in self.decoder:
            features = part(features)
        return features


class Toy(Objective):
    """Regression, with a teacher that drops out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.teacher = make_teacher(network)
        self.teacher.requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        images = batch["labeled"]["image"]
        logits, target = self.network(images), self.teacher(images).detach()
        return {"fit": ((logits - images.sum(1, keepdim=True)) ** 2).mean(), "agree": ((logits - target) ** 2).mean()}

    def reset_teacher(self) -> None:
        copy_student(self.teacher, self.network)

    def update_teacher(self, step: int) -> None:
        update_average(self.teacher, self.network, 0.8)


def named(network: nn.Module, *starts: str) -> list[str]:
    return [name for name in network.state_dict() if name.startswith(starts)]


def report_of(network: nn.Module) -> SimpleNamespace:
    return SimpleNamespace(loaded=named(network, *FROZEN["loaded"]), encoder=named(network, *FROZEN["encoder"]))


SETTINGS: dict[str, Any] = {"total": 12, "warmup": 2, "frozen_steps": 5, "rising_steps": 3}
THERE_AND_BACK = (
    TransferStage("a", 0, 3, "none", lambda step: 1.0),
    TransferStage("b", 3, 7, "encoder", lambda step: 1.0),
    TransferStage("c", 7, 9, "none", lambda step: 1.0),
    TransferStage("d", 9, 12, "loaded", lambda step: 1.0),
)
FROZEN = {"none": (), "encoder": ("whiten.", "encoder."), "loaded": ("whiten.", "encoder.", "decoder.0.")}


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.3)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1)


def trainer(
    stages: Any,
    *others: Any,
    first: Any = (),
    report: Any = report_of,
    optimizer: Callable[..., torch.optim.Optimizer] = adamw,
    wrap: Callable[[nn.Module], nn.Module] = lambda objective: objective,
    **arguments: Any,
) -> SSLTrainer:
    torch.manual_seed(0)
    objective = Toy(Network())
    cases = Dataset(
        [{"image": torch.tensor([1.0, index, -index])} for index in range(5)],
        RandGaussianNoised("image", prob=0.7, std=0.3),
    )
    settings = {"amp": False} | arguments
    return SSLTrainer(
        "cpu",
        3,
        TwoStreamLoader(cases, cases, 4, 0, seed=1),
        wrap(objective),
        optimizer([p for p in objective.parameters() if p.requires_grad]),
        4,
        seed=1,
        handlers=[
            *first,
            TeacherUpdate(),
            ScheduledLearningRate(lambda step: transfer_rate(step, stages=stages)),
            TransferSchedule(objective.network, report(objective.network) if report else None, stages),
            *others,
        ],
        **settings,
    )


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def history(engine: SSLTrainer) -> list[dict[str, Tensor]]:
    """The network before every step and after the last."""
    network = engine.objective.network
    states: list[dict[str, Tensor]] = []
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: states.append(copied(network)))
    engine.run()
    return [*states, copied(network)]


@pytest.mark.parametrize(("optimizer", "amp"), [(adamw, False), (sgd, False), (adamw, True)])
@pytest.mark.parametrize("stages", [*TRANSFER_MODES, THERE_AND_BACK])
def test_what_is_frozen_keeps_every_bit_and_the_rest_moves(stages: Any, optimizer: Any, amp: bool) -> None:
    stages = transfer_stages(stages, **SETTINGS) if isinstance(stages, str) else stages
    states = history(trainer(stages, optimizer=optimizer, amp=amp))
    assert len(states) == 13
    for stage in stages:
        for before, after in zip(states[stage.start : stage.end], states[stage.start + 1 : stage.end + 1], strict=True):
            moved = {name for name in before if not torch.equal(before[name], after[name])}
            assert moved == {name for name in before if not name.startswith(FROZEN[stage.frozen] or "-")}


def test_two_stages_are_two_optimisers_written_by_hand() -> None:
    stages = transfer_stages("two_stage", **SETTINGS)
    engine = trainer(stages)
    engine.run()

    torch.manual_seed(0)
    mine = Toy(Network())
    network = mine.network
    old = set(named(network, *FROZEN["loaded"]))
    loader = trainer(stages).data_loader
    loader.start_at(0)
    split: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for name, parameter in network.named_parameters():
        split[name in old].append(parameter)
    optimizers = [adamw(split[False]), adamw(split[True])]
    mine.reset_teacher()
    for step, batch in zip(range(12), loader, strict=False):
        seed_torch(1, "step", step, 0)
        network.train()
        mine.teacher.train()
        if step < 5:
            for part in (network.whiten, network.encoder, network.decoder[0]):
                part.eval()
        network.zero_grad()
        sum(mine(batch).values()).backward()
        for optimizer in optimizers[: 1 if step < 5 else 2]:
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * stages[step >= 5].rate(step)
            optimizer.step()
        mine.update_teacher(step)
    assert same(engine.objective.state_dict(), mine.state_dict())


@pytest.mark.parametrize(("report", "mode"), [(report_of, "fine_tune"), (None, "two_stage")])
def test_a_run_that_freezes_nothing_is_the_run_without_the_handler(report: Any, mode: str) -> None:
    stages = transfer_stages(mode, **SETTINGS)
    plain = trainer(stages, report=None)
    plain.run()
    engine = trainer(stages, report=report)
    engine.run()
    assert same(engine.objective.state_dict(), plain.objective.state_dict())
    if mode == "fine_tune":
        assert engine.optimizer.param_groups[0]["lr"] == 0.05 * polynomial_decay(11, total=12, warmup=2)


def resumed(folder: Path, stages: Any, resume: bool = False, stop: int | None = None, **arguments: Any) -> SSLTrainer:
    path = folder / "resume.pt"
    engine = trainer(stages, CheckpointWriter(path, {}, 1), first=[Resume(path, {}, resume)], **arguments)
    if stop is None:
        engine.run()
        return engine

    @engine.on(IterationEvents.FORWARD_COMPLETED)
    def kill(engine: Any) -> None:
        if engine.state.iteration == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run()
    return engine


@pytest.mark.parametrize("stages", [*TRANSFER_MODES, THERE_AND_BACK])
def test_interrupted_in_each_stage_and_resumed_equals_uninterrupted(stages: Any, tmp_path: Path) -> None:
    stages = transfer_stages(stages, **SETTINGS) if isinstance(stages, str) else stages
    whole = trainer(stages)
    whole.run()
    # inside each stage, in its last step, and in the first of the next one
    stops = sorted({step for stage in stages for step in (stage.start + 2, stage.end, stage.end + 1) if step < 13})
    for index, stop in enumerate(stops):
        resumed(tmp_path, stages, resume=index > 0, stop=stop)
    engine = resumed(tmp_path, stages, resume=True)
    assert engine.state.iteration == 12
    assert same(engine.objective.state_dict(), whole.objective.state_dict())
    assert same(engine.optimizer.state_dict(), whole.optimizer.state_dict())
    assert torch.equal(engine.state.output["loss"], whole.state.output["loss"])


def test_a_run_that_was_stopped_goes_on_in_the_same_process() -> None:
    stages = transfer_stages("sawtooth", **SETTINGS)
    whole, parts = trainer(stages), trainer(stages)
    whole.run()
    parts.add_event_handler(Events.ITERATION_COMPLETED(event_filter=lambda e, n: n in (3, 6)), lambda e: e.terminate())
    for _ in range(3):
        parts.run()
    assert parts.state.iteration == 12
    assert same(parts.objective.state_dict(), whole.objective.state_dict())


def test_frozen_modules_are_in_evaluation_mode_and_no_others() -> None:
    engine, seen = trainer(THERE_AND_BACK), []
    network: Any = engine.objective.network
    parts = {"whiten": network.whiten, "encoder": network.encoder, "block": network.decoder[0]}

    @engine.on(IterationEvents.FORWARD_COMPLETED)
    def look(engine: Any) -> None:
        seen.append([name for name, part in parts.items() if not any(m.training for m in part.modules())])
        still = {m for name in seen[-1] for m in parts[name].modules()}
        assert all(m.training for m in network.modules() if m not in still)
        assert engine.objective.teacher.training

    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: e.objective.eval())  # as a validation leaves it
    engine.run()
    assert seen == 3 * [[]] + 4 * [list(parts)[:2]] + 2 * [[]] + 3 * [list(parts)]


def test_a_mode_that_the_objective_sets_inside_its_forward_changes_nothing() -> None:
    stages = transfer_stages("feature_extraction", **SETTINGS)
    engine = trainer(stages)
    forward = engine.objective.forward

    def switching(batch: Batch) -> dict[str, Tensor]:
        engine.objective.network.eval()
        engine.objective.network.train()
        return forward(batch)

    engine.objective.forward = switching  # type: ignore[method-assign]
    states = history(engine)
    assert all(torch.equal(states[0][name], states[-1][name]) for name in named(engine.objective.network, "encoder."))


def test_gradients_pass_through_and_a_frozen_encoder_without_new_layers_before_it_keeps_nothing() -> None:
    stages = transfer_stages("feature_extraction", **SETTINGS)
    kept: dict[bool, list[bool]] = {True: [], False: []}
    for stem_is_pretrained in kept:
        engine = trainer(
            stages,
            report=lambda network, also=stem_is_pretrained: SimpleNamespace(
                loaded=[], encoder=named(network, "encoder.", *(["stem."] if also else []))
            ),
        )
        network: Any = engine.objective.network
        network.encoder.register_forward_hook(
            lambda module, args, out, seen=kept[stem_is_pretrained]: seen.append(out.requires_grad)
        )

        @engine.on(IterationEvents.BACKWARD_COMPLETED)
        def look(engine: Any, network: Any = network, frozen: bool = stem_is_pretrained) -> None:
            assert network.decoder[2].weight.grad.any()
            assert network.decoder[0][0].weight.grad.any()
            assert all(p.grad is None for p in network.encoder.parameters())
            assert network.stem.weight.grad is None if frozen else network.stem.weight.grad.any()

        engine.run()
    assert kept == {True: [False] * 12, False: [True] * 12}


def test_teachers_stay_frozen_and_follow() -> None:
    engine = trainer(transfer_stages("two_stage", **SETTINGS))
    network, teacher, agree = engine.objective.network, engine.objective.teacher, []

    @engine.on(Events.ITERATION_COMPLETED)
    def look(engine: Any) -> None:
        assert not any(p.requires_grad for p in teacher.parameters())
        assert not teacher._forward_pre_hooks
        agree.append(torch.equal(network.encoder[0][0].weight, teacher.encoder[0][0].weight))

    engine.run()
    assert agree == [True] * 5 + [False] * 7


def test_afterwards_nothing_is_frozen_but_what_was_before() -> None:
    stages = transfer_stages("feature_extraction", **SETTINGS)
    engine = trainer(stages, report=None)
    network: Any = engine.objective.network
    network.stem.requires_grad_(False)
    network.encoder[1].requires_grad_(False)
    handler = TransferSchedule(network, report_of(network), stages)
    handler.attach(engine)

    def frozen() -> set[str]:
        return {name for name, p in network.named_parameters() if not p.requires_grad}

    seen: list[set[str]] = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.append(frozen()))
    engine.run()
    assert seen == [{name for name, _ in network.named_parameters() if not name.startswith("decoder.")}] * 12
    assert frozen() == {"stem.weight", "stem.bias", "encoder.1.weight", "encoder.1.bias"}
    assert not network._forward_pre_hooks


def test_a_line_when_a_stage_begins(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    stages = transfer_stages("sawtooth", **SETTINGS)
    lines = [
        "transfer, steps 1 to 5 of 12: decoder warm-up, 6 of 12 parameter tensors frozen",
        "transfer, steps 6 to 8 of 12: warm-up of all layers, all layers train",
        "transfer, steps 9 to 12 of 12: decay, all layers train",
    ]

    def told() -> list[str]:
        found = [record.message for record in caplog.records if record.name.endswith("transfer_schedule")]
        caplog.clear()
        return found

    with caplog.at_level(logging.INFO):
        trainer(stages).run()
        assert told() == lines
        resumed(tmp_path, stages, stop=7)
        assert told() == lines[:2]
        resumed(tmp_path, stages, resume=True)
        assert told() == lines[1:]
        trainer(stages, report=None).run()
        assert told() == []


@pytest.mark.parametrize(("norm", "buffers"), [("BATCH", True), ("BATCH", False), ("INSTANCE", True)])
def test_a_network_of_monai_and_a_report_with_or_without_the_names_of_buffers(norm: str, buffers: bool) -> None:
    torch.manual_seed(0)
    network = UNet(2, 1, 1, channels=(4, 6, 8), strides=(2, 2), num_res_units=1, norm=norm, dropout=0.2)
    encoder = encoder_keys(network)
    names = [name for name in encoder if buffers or name in dict(network.named_parameters())]
    assert buffers or len(names) < len(encoder)
    stages = (TransferStage("frozen", 0, 4, "encoder", lambda step: constant(step, value=1.0)),)
    images = torch.randn(2, 1, 8, 8)
    twice: list[Tensor] = []

    class Fit(Objective):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            return {"fit": (self.network(images) - 1).pow(2).mean()}

    tapped: Any = next(module for name, module in network.named_modules() if name == "model.0")
    tapped.register_forward_hook(lambda module, args, out: twice.append(out.detach()))
    before = copied(network)
    objective = Fit(network)
    SSLTrainer(
        "cpu",
        1,
        [{}] * 4,
        objective,
        adamw(objective.parameters()),
        4,
        handlers=[TransferSchedule(network, SimpleNamespace(loaded=names, encoder=names), stages)],
    ).run()
    after = copied(network)
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved == after.keys() - set(encoder)
    assert len(twice) == 4
    assert all(torch.equal(twice[0], other) for other in twice)  # no dropout in the frozen encoder


@pytest.fixture
def one_process_group() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("stages", ["two_stage", "sawtooth", THERE_AND_BACK])
def test_distributed_data_parallel(stages: Any, one_process_group: None) -> None:
    stages = transfer_stages(stages, **SETTINGS) if isinstance(stages, str) else stages
    plain = trainer(stages)
    plain.run()
    engine = trainer(stages, wrap=lambda objective: DistributedDataParallel(objective, find_unused_parameters=True))
    engine.run()
    assert same(engine.objective.state_dict(), plain.objective.state_dict())
    with pytest.raises(RuntimeError, match="find_unused_parameters=True"):
        trainer(stages, wrap=DistributedDataParallel).run()


@pytest.mark.parametrize(
    ("mode", "loaded", "encoder", "message"),
    [
        ("two_stage", ("",), (), r"'new layers' freezes what is pretrained, and that is the whole network: "),
        (
            "two_stage",
            ("-",),
            ("encoder",),
            r"'new layers' freezes .* no trainable layer of the network is pretrained: ",
        ),
        ("sawtooth", ("decoder",), ("-",), r"'decoder warm-up' .* no trainable layer of the encoder is pretrained: "),
        ("feature_extraction", ("decoder",), ("-",), r"'feature extraction' freezes .*: use transfer fine_tune\."),
    ],
)
def test_a_stage_that_freezes_all_or_nothing_is_refused(mode: str, loaded: Any, encoder: Any, message: str) -> None:
    network = Network()
    report = SimpleNamespace(loaded=named(network, *loaded), encoder=named(network, *encoder))
    with pytest.raises(UserError, match=message):
        TransferSchedule(network, report, transfer_stages(mode, **SETTINGS))
    TransferSchedule(network, report, transfer_stages("fine_tune", **SETTINGS))


def test_a_name_that_the_network_does_not_have_is_refused() -> None:
    report = SimpleNamespace(loaded=["encoder.0.0.weight", "network.stem.weight"], encoder=[])
    with pytest.raises(ValueError, match=r"must name entries of the network's state dict, got 'network\.stem\.weight'"):
        TransferSchedule(Network(), report, transfer_stages("two_stage", **SETTINGS))
