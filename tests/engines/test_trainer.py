from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.objectives.base import Batch, Objective
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.seeding import seed_torch
from tests.helpers import same


class Toy(Objective):
    """Two terms, with dropout and noise."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        image = batch["labeled"]["image"]
        logits = self.network(image + 0.1 * torch.randn_like(image))
        return {
            "fit": nn.functional.mse_loss(logits.float(), batch["labeled"]["label"]),
            "size": logits.float().abs().mean(),
        }


class Stream:
    """Endless batches; what is drawn from torch while loading must not matter."""

    def __init__(self, noisy: bool = False) -> None:
        self.noisy = noisy

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for step in itertools.count():
            if self.noisy:
                torch.rand(step % 3 + 1)
            yield batch_of(step)


def batch_of(step: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step)
    image = torch.rand(2, 4, generator=generator)
    return {"labeled": {"image": image, "label": image.sum(1, keepdim=True), "case": [f"{step}a", f"{step}b"]}}


def objective() -> Toy:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
    return Toy(network, {"size": 0.1})


def trainer(method: nn.Module | None = None, stream: Any = None, **arguments: Any) -> SSLTrainer:
    method = method or objective()
    settings: dict[str, Any] = {"max_epochs": 2, "epoch_length": 3, "seed": 7} | arguments
    return SSLTrainer(
        device="cpu",
        data_loader=stream or Stream(),
        objective=method,
        optimizer=torch.optim.AdamW(method.parameters(), lr=0.01),
        **settings,
    )


def test_steps_are_steps_written_by_hand() -> None:
    engine, mine = trainer(), objective()
    engine.run()
    optimizer = torch.optim.AdamW(mine.parameters(), lr=0.01)
    mine.train()
    for step in range(6):
        seed_torch(7, "step", step, 0)
        labeled = batch_of(step)["labeled"]
        logits = mine.network(labeled["image"] + 0.1 * torch.randn_like(labeled["image"]))
        loss = ((logits - labeled["label"]) ** 2).mean() + 0.1 * logits.abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert engine.state.iteration == 6
    assert same(engine.objective.state_dict(), mine.state_dict())
    assert same(engine.optimizer.state_dict(), optimizer.state_dict())
    assert engine.state.output["loss"].item() == pytest.approx(loss.item())


def test_what_was_drawn_before_does_not_matter_and_the_seed_does() -> None:
    runs = [trainer(), trainer(stream=Stream(noisy=True)), trainer(seed=8)]
    for index, engine in enumerate(runs):
        torch.rand(index)
        engine.run()
    states = [engine.objective.state_dict() for engine in runs]
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


def test_every_event_fires_in_order_and_sees_its_moment() -> None:
    engine, fired = trainer(max_epochs=1, epoch_length=2), []
    weight = engine.objective.network[0].weight
    before: list[Tensor] = []

    def told(event: Any) -> None:
        def handler(engine: Any) -> None:
            if event is Events.ITERATION_STARTED:
                before[:] = [weight.detach().clone()]
            if event in (IterationEvents.FORWARD_COMPLETED, IterationEvents.LOSS_COMPLETED):
                assert weight.grad is None
            if event is IterationEvents.LOSS_COMPLETED:
                assert torch.isfinite(engine.state.output["loss"])
            if event is IterationEvents.BACKWARD_COMPLETED:
                assert weight.grad.any()
                assert torch.equal(weight, before[0])
            if event is IterationEvents.MODEL_COMPLETED:
                assert not torch.equal(weight, before[0])
            fired.append(event.name)

        engine.add_event_handler(event, handler)

    order = [Events.ITERATION_STARTED, *IterationEvents, Events.ITERATION_COMPLETED]
    order.remove(IterationEvents.INNER_ITERATION_STARTED)
    order.remove(IterationEvents.INNER_ITERATION_COMPLETED)
    for event in order:
        told(event)
    engine.run()
    assert fired == 2 * [
        "ITERATION_STARTED",
        "FORWARD_COMPLETED",
        "LOSS_COMPLETED",
        "BACKWARD_COMPLETED",
        "MODEL_COMPLETED",
        "ITERATION_COMPLETED",
    ]


def test_the_output_is_detached_and_the_batch_keeps_its_names() -> None:
    engine, seen = trainer(), []

    @engine.on(Events.ITERATION_COMPLETED)
    def look(engine: Any) -> None:
        output = engine.state.output
        assert list(output["terms"]) == ["fit", "size"]
        assert not any(value.requires_grad for value in (output["loss"], *output["terms"].values()))
        by_hand = output["terms"]["fit"] + 0.1 * output["terms"]["size"]
        assert output["loss"].item() == pytest.approx(by_hand.item(), rel=1e-6)
        seen.extend(engine.state.batch["labeled"]["case"])

    engine.run()
    assert seen == [f"{step}{which}" for step in range(6) for which in "ab"]


def test_progress_is_the_share_of_the_whole_run() -> None:
    for arguments, total in (({}, 6), ({"total_steps": 12}, 12)):
        engine, seen = trainer(**arguments), []
        engine.add_event_handler(
            IterationEvents.FORWARD_COMPLETED, lambda e, seen=seen: seen.append(e.objective.progress)
        )
        engine.run()
        assert seen == [step / total for step in range(6)]
        assert engine.total_steps == total


def test_the_objective_is_in_training_mode_at_every_step() -> None:
    engine, seen = trainer(), []
    engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, lambda e: seen.append(e.objective.network.training))
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: e.objective.eval())  # as a validation leaves it
    engine.run()
    assert seen == [True] * 6


def test_mixed_precision_on_the_cpu_is_bfloat16_and_finite() -> None:
    engine, seen = trainer(amp=True), []
    engine.objective.network[0].register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    engine.run()
    assert set(seen) == {torch.bfloat16}
    assert torch.isfinite(engine.state.output["loss"])
    assert engine.state.output["loss"].dtype == torch.float32
    assert not engine.scaler.is_enabled()
    assert all(torch.isfinite(p).all() and p.dtype == torch.float32 for p in engine.objective.parameters())


def test_arguments_of_autocast_arrive() -> None:
    engine, seen = trainer(amp=True, amp_kwargs={"dtype": torch.float16}, max_epochs=1), []
    engine.objective.network[0].register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    engine.run()
    assert set(seen) == {torch.float16}


def test_weights_are_lowered_anew_in_each_pass() -> None:
    engine, seen = trainer(amp=True, max_epochs=1), []
    engine.objective.network[0].register_forward_hook(lambda *_: seen.append(torch.is_autocast_cache_enabled()))
    engine.run()
    assert set(seen) == {False}


def test_gradients_are_scaled_and_the_scaler_outlives_run() -> None:
    plain, scaled = trainer(max_epochs=1), trainer(max_epochs=1)
    scaled.scaler = scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=2)
    gradients: list[Tensor] = []
    for engine in (plain, scaled):
        weight = engine.objective.network[0].weight

        @engine.on(IterationEvents.BACKWARD_COMPLETED)
        def keep(engine: Any, weight: Tensor = weight) -> None:
            gradients.append(weight.grad.clone())

        engine.run()
    assert torch.allclose(gradients[3], 256 * gradients[0], rtol=1e-4)
    assert scaled.scaler is scaler
    assert scaler.get_scale() == 512.0
    assert same(plain.objective.state_dict(), scaled.objective.state_dict())


def test_a_wrapped_objective_is_called_through_its_wrapper() -> None:
    class Wrapper(nn.Module):
        calls = 0

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, batch: Batch) -> Any:
            self.calls += 1
            return self.module(batch)

    wrapper = Wrapper(objective())
    engine = trainer(wrapper)
    engine.run()
    assert wrapper.calls == 6
    assert engine.objective is wrapper.module
    plain = trainer()
    plain.run()
    assert same(plain.objective.state_dict(), wrapper.module.state_dict())


def test_frozen_parts_stay() -> None:
    method = objective()
    method.network[0].requires_grad_(False)
    before = copy.deepcopy(method.network[0].state_dict())
    trainer(method).run()
    assert same(method.network[0].state_dict(), before)


def test_an_error_is_raised_once_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    engine = trainer()

    @engine.on(IterationEvents.LOSS_COMPLETED)
    def fail(engine: Any) -> None:
        raise ValueError("stop here")

    with caplog.at_level(logging.DEBUG), pytest.raises(ValueError, match="stop here"):
        engine.run()
    assert "stop here" not in caplog.text


def test_a_run_that_was_stopped_goes_on_where_it_is() -> None:
    whole, parts, steps = trainer(), trainer(), []
    whole.run()
    parts.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.terminate())
    parts.add_event_handler(Events.ITERATION_COMPLETED, lambda e: steps.append(e.state.iteration))
    parts.data_loader = Continued()
    parts.run()
    assert steps == [1, 2]
    parts.data_loader.start_at(2)
    parts.run()
    assert steps == [1, 2, 3, 4, 5, 6]
    assert same(parts.objective.state_dict(), whole.objective.state_dict())


class Continued(Stream):
    start = 0

    def start_at(self, step: int) -> None:
        self.start = step

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return itertools.islice(super().__iter__(), self.start, None)


def test_what_a_loader_can_explain_is_told_in_its_words() -> None:
    class Explaining(Stream):
        def explain(self, error: RuntimeError) -> UserError | None:
            return UserError("a.nii: the process that read it died.") if "worker" in str(error) else None

    for fault, kind in (("a worker is gone", UserError), ("something else", RuntimeError)):
        engine = trainer(stream=Explaining())

        @engine.on(Events.ITERATION_STARTED)
        def fail(engine: Any, fault: str = fault) -> None:
            raise RuntimeError(fault)

        with pytest.raises(kind):
            engine.run()
