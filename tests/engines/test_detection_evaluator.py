from __future__ import annotations

import copy
from typing import Any

import ignite.distributed as idist
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, MetaTensor
from monai.data.utils import no_collation
from torch import Tensor

from monai_ssl.engines.detection_evaluator import DetectionEvaluator
from monai_ssl.networks.sliding_detector import sliding_detector
from tests.helpers import same
from tests.networks.test_sliding_detector import BrightCells, network

# cells of two voxels that are bright, by their first voxels; an image without one, and one larger than a window
CELLS = [[(2, 2, 2)], [], [(0, 4, 8), (12, 10, 2), (6, 6, 6)], [(2, 20, 10), (8, 36, 4)]]
SIZES = [(16, 16, 16), (8, 8, 8), (16, 16, 16), (16, 40, 16)]


def cases() -> list[dict[str, Any]]:
    made = []
    for size, cells in zip(SIZES, CELLS, strict=True):
        image = torch.zeros(1, *size)
        for x, y, z in cells:
            image[0, x : x + 2, y : y + 2, z : z + 2] = 1.0
        boxes = torch.tensor([[*cell, *(first + 2 for first in cell)] for cell in cells]).reshape(-1, 6).float()
        made.append({"image": MetaTensor(image), "box": boxes, "label": torch.zeros(len(cells), dtype=torch.int64)})
    return made


def evaluator(data: Any, batch_size: int = 1, **arguments: Any) -> DetectionEvaluator:
    # at stride 2 alone, a cell is an anchor; what is dim scores exp(-18)
    detector = sliding_detector(network(BrightCells, levels=(1,)), (16, 16, 16), overlap=0.5, score_threshold=0.5)
    loader = DataLoader(data, batch_size=batch_size, collate_fn=no_collation)
    return DetectionEvaluator("cpu", loader, detector, **arguments)


def outputs(engine: DetectionEvaluator) -> list[dict[str, Tensor]]:
    seen: list[dict[str, Tensor]] = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.extend(copy.deepcopy(e.state.output)))
    engine.run()
    return seen


def rows(boxes: Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in boxes.tolist()}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_case_has_its_own_boxes(batch_size: int) -> None:
    data = cases()
    found = outputs(evaluator(data, batch_size))
    assert len(found) == len(data)
    for case, each in zip(data, found, strict=True):
        assert list(each) == ["pred_box", "pred_label", "pred_score"]
        assert rows(each["pred_box"]) == rows(case["box"])
        assert each["pred_box"].shape == (len(case["box"]), 6)
        assert torch.equal(each["pred_label"], case["label"])
        assert all(type(value) is Tensor and not value.requires_grad for value in each.values())


def test_what_fits_into_a_window_is_seen_whole_and_the_rest_by_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, sizes = evaluator(cases()), []
    forward = BrightCells.forward

    def look(self: Any, images: Tensor) -> Any:
        sizes.append((engine.state.iteration, tuple(images.shape[2:]), self.training))
        return forward(self, images)

    monkeypatch.setattr(BrightCells, "forward", look)
    engine.run()
    assert sizes[:3] == [(1, (16, 16, 16), False), (2, (8, 8, 8), False), (3, (16, 16, 16), False)]
    assert len(sizes) > 4
    assert {size for number, size, _ in sizes[3:] if number == 4} == {(16, 16, 16)}


def test_the_network_is_left_in_its_mode() -> None:
    engine = evaluator(cases())
    detector = engine.detector.network
    detector.train()
    detector.feature_extractor.encoder.layer1.eval()
    before = {name: module.training for name, module in detector.named_modules()}
    weights = copy.deepcopy(detector.state_dict())
    engine.run()
    assert {name: module.training for name, module in detector.named_modules()} == before
    assert same(dict(detector.state_dict()), dict(weights))


def test_postprocessing_and_handlers_see_a_case_with_what_was_found_and_leave_the_data_alone() -> None:
    def doubled(case: dict[str, Any]) -> dict[str, Any]:
        case["box"] = case["box"] * 2
        return {**case, "pred_box": case["pred_box"] * 2}

    data = cases()
    before = copy.deepcopy(data)
    engine = evaluator(data, 2, postprocessing=doubled)
    seen: list[tuple[set[tuple[float, ...]], set[tuple[float, ...]]]] = []

    @engine.on(Events.ITERATION_COMPLETED)
    def remember(engine: Any) -> None:
        for case, each in zip(engine.state.batch, engine.state.output, strict=True):
            seen.append((rows(case["box"]), rows(each["pred_box"])))

    for _ in range(2):  # as two validations of one run, with the cases kept in memory
        seen.clear()
        engine.run()
        assert seen == [(rows(2 * case["box"]),) * 2 for case in before]
    assert same(data, before)


def test_keys_and_precision_may_be_others() -> None:
    arguments: dict[str, Any] = {"image_key": "scan", "box_key": "b", "label_key": "l", "score_key": "s", "amp": True}
    data = [{"scan": case["image"]} for case in cases()]
    found = outputs(evaluator(data, amp_kwargs={"dtype": torch.bfloat16}, **arguments))
    assert [set(each) for each in found] == [{"b", "l", "s"}] * len(data)
    assert [rows(each["b"]) for each in found] == [rows(case["box"]) for case in cases()]
    assert all(each["b"].dtype == torch.float32 for each in found)


def test_of_several_processes_all_take_the_statistics_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = evaluator(cases()[:1])
    sent: list[tuple[int, int]] = []

    def broadcast(buffer: Tensor, source: int) -> None:
        sent.append((buffer.data_ptr(), source))
        buffer.fill_(3)

    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "broadcast", broadcast)
    at_start: list[int] = []
    engine.add_event_handler(Events.STARTED, lambda e: at_start.append(len(sent)))
    engine.run()
    buffers = list(engine.detector.network.buffers())
    assert len(buffers) > 3
    assert sent == [(buffer.data_ptr(), 0) for buffer in buffers]
    assert at_start == [len(buffers)]
    assert all((buffer == 3).all() for buffer in buffers)
