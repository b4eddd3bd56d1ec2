from __future__ import annotations

import io
from collections import deque
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from monai_ssl.losses.contrastive import info_nce
from monai_ssl.networks.feature_queue import FeatureQueue
from tests import helpers


@pytest.mark.parametrize("size", [1, 5, 8])
def test_it_holds_the_last_keys_as_a_list_would(size: int) -> None:
    queue, expected = FeatureQueue(size, 3), deque[Any](maxlen=size)
    for step in range(20):
        count = min(size, 1 + step % 4)
        keys, groups = torch.randn(count, 3), torch.randint(-3, 3, (count,))
        queue.enqueue(keys, groups)
        expected.extend(zip(F.normalize(keys, dim=1).tolist(), groups.tolist(), strict=True))
        held = zip(queue.keys[queue.filled].tolist(), queue.groups[queue.filled].tolist(), strict=True)
        assert sorted(held) == sorted(expected)
        for group in range(-3, 3):
            negatives, allowed = queue.negatives(torch.tensor([group]))
            assert sorted(negatives[allowed[0]].tolist()) == sorted(key for key, scan in expected if scan != group)


def test_a_queue_with_the_batch_in_it_is_the_batch() -> None:
    query, key, groups = torch.randn(6, 5), torch.randn(6, 5), torch.arange(6)
    queue = FeatureQueue(6, 5)
    queue.enqueue(key, groups)
    loss = info_nce(query, key, *queue(groups), temperature=0.3)
    similarity = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / 0.3
    assert torch.allclose(loss, F.cross_entropy(similarity, groups))
    larger = FeatureQueue(100, 5)  # unused slots count for nothing
    larger.enqueue(key, groups)
    assert torch.allclose(info_nce(query, key, *larger(groups), temperature=0.3), loss)


def test_a_batch_of_one_learns_from_the_second_scan_on() -> None:
    queue, losses = FeatureQueue(4, 5), []
    for scan in (3, 3, 8, 3):
        query, groups = torch.randn(1, 5, requires_grad=True), torch.tensor([scan])
        loss = info_nce(query, query + 0.1 * torch.randn(1, 5), *queue(groups))
        queue.enqueue(query, groups)
        (gradient,) = torch.autograd.grad(loss, query)
        losses.append(loss.item())
        assert bool(gradient.any()) == (loss.item() > 0)
    assert losses[:2] == [0, 0]
    assert min(losses[2:]) > 0


def test_keys_may_be_put_in_before_the_backward_pass() -> None:
    queue, groups = FeatureQueue(4, 5), torch.arange(2)
    queue.enqueue(torch.randn(2, 5), groups + 10)
    query, key = torch.randn(2, 5, requires_grad=True), torch.randn(2, 5)
    (expected,) = torch.autograd.grad(info_nce(query, key, *queue(groups)), query)
    loss = info_nce(query, key, *queue(groups))
    queue.enqueue(key, groups)
    queue.enqueue(key, groups)
    (gradient,) = torch.autograd.grad(loss, query)
    assert torch.equal(gradient, expected)


def test_no_gradient_and_no_graph_ever_reach_it() -> None:
    queue, key = FeatureQueue(4, 5), torch.randn(2, 5, requires_grad=True)
    queue.enqueue(key, torch.arange(2))
    negatives, _ = queue.negatives(torch.arange(2))
    assert not list(queue.parameters())
    assert not any(buffer.requires_grad for buffer in queue.buffers())
    assert not negatives.requires_grad
    negatives.zero_()
    assert torch.allclose(queue.keys[:2].norm(dim=1), torch.ones(2))


def test_a_restored_queue_goes_on_as_the_old_one() -> None:
    queue = FeatureQueue(5, 3)
    queue.enqueue(torch.randn(4, 3), torch.arange(4))
    file = io.BytesIO()
    torch.save(queue.state_dict(), file)
    file.seek(0)
    restored = FeatureQueue(5, 3)
    restored.load_state_dict(torch.load(file, weights_only=True))
    keys = torch.randn(3, 3)
    for one in (queue, restored):
        one.enqueue(keys, torch.arange(3))
    assert helpers.same(queue.state_dict(), restored.state_dict())
    assert queue.position.item() == 2


def test_half_precision_keys_are_kept_in_float32() -> None:
    queue = FeatureQueue(2, 3)
    queue.enqueue(torch.randn(1, 3).bfloat16(), torch.tensor([1], dtype=torch.int32))
    assert queue.keys.dtype == torch.float32
    assert queue.keys[0].norm().item() == pytest.approx(1)


def test_what_is_refused() -> None:
    queue = FeatureQueue(4, 3)
    with pytest.raises(ValueError, match=r"`keys` must be \(B, 3\) with B from 1 to 4, got \(5, 3\)"):
        queue.enqueue(torch.randn(5, 3), torch.arange(5))
    with pytest.raises(ValueError, match=r"`keys` must be \(B, 3\)"):
        queue.enqueue(torch.randn(2, 4), torch.arange(2))
    with pytest.raises(ValueError, match=r"`groups` must be one number a key, \(2,\), got \(3,\)"):
        queue.enqueue(torch.randn(2, 3), torch.arange(3))
    with pytest.raises(ValueError, match=r"`groups` must be one number a query, \(B,\), got \(2, 1\)"):
        queue.negatives(torch.zeros(2, 1))
    for arguments, name in (((0, 3), "size"), ((4, 2.5), "features")):
        with pytest.raises(ValueError, match=f"`{name}` must be a whole number from 1"):
            FeatureQueue(*arguments)  # type: ignore[arg-type]
