from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_ssl.networks.anchor_targets import confident_boxes, soft_anchor_targets
from monai_ssl.networks.detector import Detector
from monai_ssl.transforms.grid_symmetry import grid_symmetries
from tests.objectives import boxes

SIZE = [boxes.SIDE] * 3


@pytest.fixture
def network() -> Detector:
    network = boxes.detector(num_classes=2)
    for head in (network.classification_head.cls_logits, network.regression_head.bbox_reg):
        torch.nn.init.normal_(head.weight, std=0.2)
    return network


def images() -> Tensor:
    return torch.randn(2, 1, *SIZE)


def test_one_view_is_the_prediction(network: Detector) -> None:
    u = images()
    targets, found = soft_anchor_targets(network, u, grid_symmetries(SIZE)[:1], temperature=1.0)
    with torch.no_grad():
        maps = network.eval()(u)
        p = torch.sigmoid(network.flatten(maps["classification"]))
        decoded = network.decode(network.flatten(maps["box_regression"]), network.anchors(SIZE))
    assert torch.allclose(targets, p, atol=1e-6)
    assert torch.allclose(found, decoded, atol=1e-4)


def test_slow_rederivation_by_the_place_of_the_boxes(network: Detector) -> None:
    """Every anchor of every view is turned back as a box and looked up among the anchors by its coordinates."""
    u = images()
    symmetries = [grid_symmetries(SIZE)[number] for number in (0, 5, 13, 22, 47)]
    targets, found = soft_anchor_targets(network, u, symmetries, temperature=0.5)
    anchors = network.anchors(SIZE)
    p, decoded = torch.zeros(2, len(anchors), 2), torch.zeros(2, len(anchors), 6)
    network.eval()
    for symmetry in symmetries:
        with torch.no_grad():
            maps = network(symmetry.turn_images(u))
        said = torch.sigmoid(network.flatten(maps["classification"]))
        boxes_there = network.decode(network.flatten(maps["box_regression"]), anchors)
        back = symmetry.undo_boxes(anchors, SIZE)
        for number, box in enumerate(back):
            place = int((anchors - box).abs().sum(1).argmin())
            assert torch.allclose(anchors[place], box, atol=1e-5)
            p[:, place] += said[:, number] / len(symmetries)
            decoded[:, place] += symmetry.undo_boxes(boxes_there[:, number], SIZE) / len(symmetries)
    assert torch.allclose(targets, p**2 / (p**2 + (1 - p) ** 2), atol=1e-5)
    assert torch.allclose(found, decoded, atol=1e-3)


def test_a_turned_patch_has_the_turned_targets(network: Detector) -> None:
    """With all symmetries, which are a group, it does not matter how the patch came."""
    legal = grid_symmetries(SIZE)
    u = images()
    targets, found = soft_anchor_targets(network, u, legal)
    turn = legal[29]
    turned, found_there = soft_anchor_targets(network, turn.turn_images(u), legal)
    places = torch.cdist(turn.turn_boxes(network.anchors(SIZE), SIZE), network.anchors(SIZE)).argmin(1)
    assert torch.allclose(targets, turned[:, places], atol=1e-5)
    assert torch.allclose(turn.turn_boxes(found, SIZE), found_there[:, places], atol=1e-3)


def test_without_gradient_in_one_pass_and_in_evaluation_mode(network: Detector) -> None:
    calls: list[tuple[int, bool]] = []
    network.register_forward_hook(lambda module, args, _: calls.append((len(args[0]), module.training)))
    targets, found = soft_anchor_targets(network.train(), images(), grid_symmetries(SIZE)[:4])
    assert calls == [(8, False)]
    assert network.training
    assert not targets.requires_grad
    assert not found.requires_grad


def test_confident_boxes_by_hand() -> None:
    found = torch.tensor(
        [[[0, 0, 0, 4, 4, 4], [0, 0, 0, 4, 4, 5], [6, 6, 6, 14, 9, 9], [20, 20, 20, 24, 24, 24], [1, 6, 1, 4, 9, 4]]]
    ).float()
    p = torch.tensor([[[0.9, 0.1], [0.95, 0.0], [0.0, 0.85], [1.0, 0.0], [0.5, 0.6]]])
    chosen, labels = confident_boxes(p, found, [12, 12, 12], threshold=0.8, count=3)
    # the first is a double of the second, the fourth lies outside, the last is unsure
    assert chosen[0, 0].tolist() == [0, 0, 0, 4, 4, 5]
    assert chosen[0, 1].tolist() == [6, 6, 6, 12, 9, 9]
    assert chosen[0, 2].isnan().all()
    assert labels.tolist() == [[0, 1, -1]]
    fewer, one = confident_boxes(p, found, [12, 12, 12], threshold=0.8, count=1)
    assert fewer.shape == (1, 1, 6)
    assert one.tolist() == [[0]]
    no_room, of_none = confident_boxes(p, found, [12, 12, 12], threshold=0.8, count=0)
    assert (no_room.shape, of_none.shape) == ((1, 0, 6), (1, 0))
    nothing, none = confident_boxes(p, found, [12, 12, 12], threshold=1.0, count=2)
    assert nothing.isnan().all()
    assert none.tolist() == [[-1, -1]]


def test_messages(network: Detector) -> None:
    with pytest.raises(ValueError, match="`symmetries` must be one at least"):
        soft_anchor_targets(network, images(), [])
    with pytest.raises(ValueError, match="`temperature` must be above 0"):
        soft_anchor_targets(network, images(), grid_symmetries(SIZE)[:1], temperature=0.0)
