from __future__ import annotations

import copy
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_ssl.objectives.dual_teacher import DualTeacher
from monai_ssl.objectives.supervised import Supervised
from monai_ssl.transforms.mixing import cuboid_mask, draw_partners
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives.mixing import batch, check_resumes, cross_entropy, dice_ce_by_hand, network, voxels


def method(turn: int = 0, apart: bool = True, **arguments: Any) -> DualTeacher:
    """With turns of one step, of which the next one is the given teacher's."""
    arguments = {"threshold": 0.5, "longest_turn": 1} | arguments
    objective = DualTeacher(network(), cross_entropy, **arguments)
    objective.updates[0] = turn
    if apart:
        helpers.perturb(objective.teachers, 0.4)
    return objective


@pytest.mark.parametrize("turn", [0, 1])
def test_battery(turn: int) -> None:
    objective = method(turn, weights={"pseudo": 2.0})
    helpers.check_objective(objective, batch(2, 3), reaches={"supervised": "network", "pseudo": "network"})
    assert helpers.frozen(objective) == [objective.teachers]
    helpers.check_no_shared_storage(objective.teachers[0], objective.teachers[1])


def test_overfits() -> None:
    helpers.check_overfits(method(apart=False), batch(), steps=60, learning_rate=3e-2)


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


def labels_by_hand(objective: DualTeacher, weak: Tensor) -> tuple[Tensor, Tensor, Counter[str]]:
    """Label and confidence voxel by voxel in Python floats, and how often what happened."""
    nets = (*objective.teachers, objective.network.eval())
    answers = [net(weak).detach() for net in nets]
    objective.network.train()
    label, confidence = (torch.zeros_like(weak) for _ in range(2))
    happened: Counter[str] = Counter()
    for b, *at in voxels(weak):
        one, two, student = (softmax(answer[(b, slice(None), *at)].tolist()) for answer in answers)
        trust = [math.exp(sum(c * math.log(c) for c in p)) for p in (one, two)]
        mean = [(trust[0] * c + trust[1] * d) / sum(trust) for c, d in zip(one, two, strict=True)]
        chosen = mean
        if one.index(max(one)) != two.index(max(two)):
            happened["conflict"] += 1
            if student.index(max(student)) != mean.index(max(mean)) and max(student) > max(mean):
                happened["overruled"] += 1
                chosen = student
        label[(b, 0, *at)], confidence[(b, 0, *at)] = chosen.index(max(chosen)), max(chosen)
        happened["kept"] += max(chosen) > objective.threshold
        happened["foreground"] += chosen[0] < max(chosen)
        happened["kept_foreground"] += chosen[0] < max(chosen) > objective.threshold
    return label.long(), confidence, happened


@pytest.mark.parametrize("turn", [0, 1])
def test_the_algorithm_box_written_out(turn: int) -> None:
    objective, data = method(turn, threshold=0.55), batch(2, 3)
    torch.manual_seed(4)
    terms = objective(data)
    torch.manual_seed(4)
    partners = draw_partners(3).tolist()
    cuboids = cuboid_mask((4, 6, 4), 3, volume=(0.1, 0.6))

    weak = data["unlabeled"]["image"]
    label, confidence, happened = labels_by_hand(objective, weak)
    assert 0 < happened["overruled"] < happened["conflict"]
    assert 0 < happened["kept"] < weak.numel()
    view, targets, sure = data["unlabeled"]["strong"].clone(), label.clone(), confidence.clone()
    if turn == 1:
        view = weak.clone()
        for b, *at in voxels(weak):
            if cuboids[(b, 0, *at)]:
                for mine, theirs in ((view, weak), (targets, label), (sure, confidence)):
                    mine[(b, 0, *at)] = theirs[(partners[b], 0, *at)]
        assert not torch.equal(targets, label)
    logits = objective.network(view).detach()
    assert terms["pseudo"].item() == pytest.approx(dice_ce_by_hand(logits, targets, sure > 0.55), rel=1e-4)
    for name in ("conflict", "overruled", "kept"):
        assert objective.figures[name].item() == pytest.approx(happened[name] / weak.numel()), name
    share = happened["kept_foreground"] / happened["foreground"]
    assert objective.figures["kept_foreground"].item() == pytest.approx(share)


@pytest.mark.parametrize("turn", [0, 1])
def test_at_weight_zero_it_is_supervised_learning(turn: int) -> None:
    objective, data = method(turn, weights={"pseudo": 0.0}), batch()
    expected = Supervised(objective.network, cross_entropy)(data)["supervised"]
    terms = objective(data)
    assert torch.equal(objective.total(terms), terms["supervised"])
    assert terms["supervised"].item() == pytest.approx(expected.item(), rel=1e-6)
    del data["unlabeled"]
    assert list(objective(data)) == ["supervised"]
    assert torch.equal(objective(data)["supervised"], expected)


@pytest.mark.parametrize("longest", [1, 2, 19])
def test_turns_alternate_and_their_lengths_are_uniform(longest: int) -> None:
    objective = method(longest_turn=longest)
    turns = [objective.turn(step) for step in range(400 * (longest + 1))]
    blocks = [turns[start : start + longest + 1] for start in range(0, len(turns), longest + 1)]
    assert all(block == sorted(block) and block[0] == 0 and block[-1] == 1 for block in blocks)
    for teacher in (0, 1):
        lengths = Counter(block.count(teacher) for block in blocks)
        assert set(lengths) == set(range(1, longest + 1))
        expected = 400 / longest
        assert all(abs(number - expected) < 5 * math.sqrt(expected) for number in lengths.values())


def test_turns_depend_on_step_and_seed_alone() -> None:
    first, again, other = (method(longest_turn=19, seed=seed) for seed in (3, 3, 4))
    steps = list(range(200))
    straight = [first.turn(step) for step in steps]
    assert [again.turn(step) for step in reversed(steps)] == straight[::-1]
    assert [other.turn(step) for step in steps] != straight


def test_the_teacher_whose_turn_it_is_follows() -> None:
    objective = method(longest_turn=3, decay=0.6)
    seen = []
    for step in range(12):
        turn = objective.turn(step)
        assert int(objective.updates.sum()) == step
        helpers.perturb([objective.network], 0.3)
        old, count = copy.deepcopy(objective.teachers.state_dict()), int(objective.updates[turn])
        objective.update_teacher(step)
        decay = min(1 - 1 / (count + 1), 0.6)  # 0 at its own first update: a copy
        for name, value in objective.teachers.state_dict().items():
            number, key = name.split(".", 1)
            mine = objective.network.state_dict()[key]
            expected = decay * old[name] + (1 - decay) * mine if int(number) == turn else old[name]
            assert torch.allclose(value, expected, atol=1e-6), (step, name)
        seen.append(turn)
    assert objective.updates.tolist() == [seen.count(0), seen.count(1)]
    assert objective.deployed is objective.teachers[0]
    objective.reset_teacher()
    assert objective.updates.tolist() == [0, 0]
    for teacher in objective.teachers:
        assert helpers.same(teacher.state_dict(), objective.network.state_dict())
    objective.train()
    assert objective.network.training
    assert not any(module.training for module in objective.teachers.modules())


@pytest.mark.parametrize("turn", [0, 1])
def test_under_autocast_the_student_keeps_its_gradient(turn: int) -> None:
    """The student first passes without gradient: what autocast cast for that must not be used where there is one."""
    objective = method(turn)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = objective(batch())
    for term in terms.values():
        assert term.dtype == torch.float32
        gradients = torch.autograd.grad(term, list(objective.network.parameters()), retain_graph=True)
        assert sum(bool(gradient.any()) for gradient in gradients) > len(gradients) / 2


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    def make() -> DualTeacher:
        torch.manual_seed(0)
        return DualTeacher(network(), cross_entropy, threshold=0.4, longest_turn=5)

    assert [make().turn(step) for step in range(4, 8)].count(0) not in (0, 4)
    check_resumes(make, tmp_path)


def test_what_does_not_fit_is_told() -> None:
    data = batch()
    del data["unlabeled"]["strong"]
    for turn in (0, 1):
        with pytest.raises(
            UserError, match=r"needs the entry 'strong' in the unlabelled stream; it has image, strong_b\. .*`views`"
        ):
            method(turn)(data)
    for arguments, message in (
        ({"threshold": 1.0}, r"`threshold` must be in \[0, 1\), got 1\.0\."),
        ({"decay": -0.1}, r"`decay` must be in \[0, 1\), got -0\.1\."),
        ({"longest_turn": 0}, r"`longest_turn` must be at least 1 step, got 0\."),
        ({"mix_volume": (0.6, 0.1)}, r"`mix_volume` must be two numbers in \[0, 1\], .* got \(0\.6, 0\.1\)\."),
    ):
        with pytest.raises(ValueError, match=message):
            DualTeacher(network(), cross_entropy, **arguments)
