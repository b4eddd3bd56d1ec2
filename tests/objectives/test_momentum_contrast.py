from __future__ import annotations

import copy
import itertools
import math
import multiprocessing
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.handlers.checkpoint import CheckpointWriter, Resume
from monai_ssl.handlers.teacher import TeacherUpdate
from monai_ssl.networks.heads import NetworkOutput, ProjectionHead
from monai_ssl.objectives.momentum_contrast import MomentumContrast
from monai_ssl.objectives.multitask import Multitask
from monai_ssl.objectives.reconstruction import Reconstruction
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives.pretext import images, network

SHAPES = [(8, 4, 4, 4)]
Batch = dict[str, dict[str, Tensor]]


def method(*others: Any, filled: int = 6, **settings: Any) -> Multitask:
    """An objective whose queue holds keys of scans 100 and above, so that the first loss is not 0."""
    torch.manual_seed(0)
    settings = {"features": 5, "queue": 8} | settings
    heads = {"projection": ProjectionHead(SHAPES, 5), "output": NetworkOutput(1)}
    objective = Multitask(network(**heads), [MomentumContrast(**settings), *others])
    if filled:
        generator = torch.Generator().manual_seed(3)
        objective.tasks[0].queue.enqueue(torch.randn(filled, 5, generator=generator), 100 + torch.arange(filled))
    return objective


def views(scans: tuple[int, ...] = (0, 1, 2), count: int = 2, noise: float = 0.3) -> Batch:
    generator = torch.Generator().manual_seed(2)
    clean = images(len(scans))[:, None]
    noisy = clean + noise * torch.randn(len(scans), count, 1, 8, 8, 8, generator=generator)
    return {"unlabeled": {"image": noisy, "scan": torch.tensor(scans)}}


def test_battery() -> None:
    objective = method()
    helpers.check_objective(objective, views(), reaches={"contrast": "network"})
    assert helpers.frozen(objective) == [objective.tasks]  # the teacher, and nothing else of the task trains


def test_overfits_and_then_tells_the_scans_apart() -> None:
    objective = method(filled=0, decay=0.9)
    objective(views())  # the batch is in the queue: the loss starts from views that are all alike
    helpers.check_overfits(objective, views(), steps=60)
    features = objective.network(views(noise=0.2)["unlabeled"]["image"].flatten(0, 1))["projection"]
    first, second = nn.functional.normalize(features, dim=1).unflatten(0, (3, 2)).unbind(1)
    assert (first @ second.T).argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("views_", [2, 3])
def test_the_algorithm_box_written_out(views_: int) -> None:
    """Three steps with a list for a queue, one query at a time, in Python floats."""
    objective, queue = method(filled=0, queue=11, views=views_, temperature=0.3), deque[Any](maxlen=11)
    task, student = objective.tasks[0], objective.network
    for scans in ((4, 7), (7, 9), (1, 4)):
        helpers.perturb([task.teacher], 0.2)
        batch = views(scans, views_)["unlabeled"]
        q = student(batch["image"].flatten(0, 1))["projection"].tolist()
        k = task.teacher(batch["image"].flatten(0, 1))["projection"].tolist()
        losses, hits = [], []
        for case, i, j in itertools.product(range(2), range(views_), range(views_)):
            if i != j:
                query, key = q[case * views_ + i], k[case * views_ + j]
                against = [cosine(query, old) for scan, old in queue if scan != scans[case]]
                agree = cosine(query, key)
                losses.append(-math.log(math.exp(agree / 0.3) / sum(math.exp(s / 0.3) for s in [agree, *against])))
                hits.append(bool(against) and agree > max(against))
        assert objective({"unlabeled": batch})["contrast"].item() == pytest.approx(sum(losses) / len(losses), abs=1e-5)
        assert objective.figures["contrast_accuracy"].item() == pytest.approx(sum(hits) / len(hits))
        queue.extend((scans[index // views_], key) for index, key in enumerate(k))
        assert sorted(task.queue.groups[task.queue.filled].tolist()) == sorted(scan for scan, _ in queue)
    assert max(losses) > 0


def cosine(left: list[float], right: list[float]) -> float:
    norms = math.hypot(*left) * math.hypot(*right)
    return sum(a * b for a, b in zip(left, right, strict=True)) / norms


def test_a_batch_of_one_learns_from_the_second_scan_on() -> None:
    objective, seen = method(filled=0), []
    for scan in (3, 3, 8):
        objective.zero_grad()
        term = objective(views((scan,)))["contrast"]
        term.backward()
        gradients = [p.grad for p in objective.network.parameters() if p.grad is not None]
        seen.append((term.item() > 0, any(bool(g.any()) for g in gradients)))
        assert all(torch.isfinite(g).all() for g in gradients)
    assert seen == [(False, False), (False, False), (True, True)]


def test_flattened_views_are_the_same_views() -> None:
    batch = views()["unlabeled"]
    flat = {"unlabeled": {**batch, "image": batch["image"].flatten(0, 1)}}
    assert torch.equal(method()({"unlabeled": batch})["contrast"], method()(flat)["contrast"])


def test_the_queue_is_filled_in_training_alone_and_by_the_teacher() -> None:
    objective, batch = method(filled=0), views()
    queue, teacher = objective.tasks[0].queue, objective.tasks[0].teacher
    objective.eval()(batch)
    assert not queue.filled.any()
    helpers.perturb([teacher], 0.3)
    objective.train()(batch)
    keys = nn.functional.normalize(teacher(batch["unlabeled"]["image"].flatten(0, 1))["projection"], dim=1)
    assert torch.allclose(queue.keys[:6], keys)
    assert queue.groups[:6].tolist() == [0, 0, 1, 1, 2, 2]


def test_masked_images_and_clean_keys_beside_inpainting_in_one_pass() -> None:
    restore = Reconstruction("masked", mask=None, over="all", head="output")
    objective = method(restore, image="masked", keys="image", views=1, decay=0.9)
    clean = images(3)
    masked = clean.clone()
    masked[:, :, 2:4] = 0
    batch = {"unlabeled": {"image": clean, "masked": masked, "scan": torch.arange(3)}}
    calls: list[int] = []
    objective.deployed.model[0].register_forward_hook(lambda *_: calls.append(1))
    helpers.check_terms(objective, batch)
    assert len(calls) == 1
    queue = objective.tasks[0].queue
    keys = objective.tasks[0].teacher(clean)["projection"]
    assert torch.allclose(queue.keys[[6, 7, 0]], nn.functional.normalize(keys, dim=1))
    objective(batch)
    helpers.check_overfits(objective, batch, steps=60, ratio=0.8)


def test_the_teacher_follows_with_this_head_alone_and_stays_in_evaluation_mode() -> None:
    objective = method(decay=0.9)
    teacher = objective.tasks[0].teacher
    assert list(teacher.heads) == ["projection"]
    for switch in (objective.train, objective.eval, objective.train):
        assert switch() is objective
        assert objective.tasks[0].training == objective.training
        assert not any(module.training for module in teacher.modules())
    student = {name: value for name, value in objective.network.state_dict().items() if name in teacher.state_dict()}
    for step in (0, 1, 500):
        helpers.perturb([objective.network], 0.3)
        old = copy.deepcopy(teacher.state_dict())
        objective.update_teacher(step)
        for name, value in teacher.state_dict().items():
            assert torch.allclose(value, 0.9 * old[name] + 0.1 * student[name], atol=1e-6), (step, name)
    helpers.perturb([teacher], 0.3)
    objective.reset_teacher()
    assert helpers.same(dict(teacher.state_dict()), student)
    assert len(objective.network.heads) == 2


class Stream:
    """Batches of one scan; what step n holds is a function of n."""

    def __init__(self) -> None:
        self.first = 0

    def start_at(self, step: int) -> None:
        self.first = step

    def __iter__(self) -> Iterator[Batch]:
        for step in itertools.count(self.first):
            batch = views((step % 3,), noise=0.0)["unlabeled"]
            yield {"unlabeled": {**batch, "image": batch["image"].roll(step, 3)}}


def train(folder: Path, steps: int, resume: bool = False) -> SSLTrainer:
    objective = method(filled=0, queue=3)
    path = folder / "resume.pt"
    engine = SSLTrainer(
        device="cpu",
        max_epochs=3,
        epoch_length=2,
        data_loader=Stream(),
        objective=objective,
        optimizer=torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=0.01),
        handlers=[Resume(path, {}, resume), TeacherUpdate(), CheckpointWriter(path, {}, 2)],
    )
    engine.state.max_epochs = steps // 2
    engine.run()
    return engine


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = train(tmp_path / "whole", 6)
    train(tmp_path, 2)
    state = torch.load(tmp_path / "resume.pt", weights_only=True)
    torch.save({**state, "max_epochs": 3}, tmp_path / "resume.pt")
    resumed = train(tmp_path, 6, resume=True)
    assert resumed.state.iteration == whole.state.iteration == 6
    assert bool(whole.objective.tasks[0].queue.filled.all())
    assert helpers.same(resumed.objective.state_dict(), whole.objective.state_dict())
    assert helpers.same(resumed.optimizer.state_dict(), whole.optimizer.state_dict())


def process(rank: int, store: str, answers: Any) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    objective = method(filled=0, queue=20)
    for step in range(2):
        objective(views((4 * step + 2 * rank, 4 * step + 2 * rank + 1)))
    answers.put([value.tolist() for value in objective.tasks[0].queue.state_dict().values()])
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_the_queue_holds_the_keys_of_all_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # spawned ones would import MONAI anew
    answers = context.Queue()
    both = [context.Process(target=process, args=(rank, tmp_path / "store", answers)) for rank in range(2)]
    for each in both:
        each.start()
    first, second = answers.get(timeout=60), answers.get(timeout=60)
    for each in both:
        each.join()
        assert each.exitcode == 0
    assert first == second
    alone = method(filled=0, queue=20)
    for scans in ((0, 1), (2, 3), (4, 5), (6, 7)):
        alone(views(scans))
    expected = alone.tasks[0].queue.state_dict().values()
    assert all(torch.allclose(torch.tensor(got), value) for got, value in zip(first, expected, strict=True))


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ValueError, match="`views` must be 2 or more, or 1 with other images as `keys`, got 1"):
        MomentumContrast(views=1)
    with pytest.raises(ValueError, match=r"`views` must be 2 or more, .* got 0"):
        MomentumContrast(views=0, keys="clean")
    with pytest.raises(ValueError, match=r"`decay` must be in \[0, 1\), got 1\.0"):
        MomentumContrast(decay=1.0)
    with pytest.raises(UserError, match="needs the entry 'scan' in the unlabelled stream; it has image"):
        method()({"unlabeled": {"image": views()["unlabeled"]["image"]}})
    for scan in (torch.arange(6), torch.zeros(3, 1, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"`views` 2 and the entry 'scan' \(.*\) do not fit: a batch has 6 images"):
            method()({"unlabeled": {**views()["unlabeled"], "scan": scan}})
