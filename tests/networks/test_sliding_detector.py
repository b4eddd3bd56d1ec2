from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import ResNet
from torch import Tensor

from monai_ssl.networks.detector import Detector
from monai_ssl.networks.sliding_detector import AlignedWindowInferer, sliding_detector
from monai_ssl.utils.errors import UserError

SIZES = [(16, 16, 16), (40, 24, 16), (8, 8, 8), (8, 40, 16), (56, 16, 24)]


class BrightCells(Detector):
    """Finds what fills a cell of the finest level: its boxes are the anchors, its scores the cells' brightness."""

    def forward(self, images: Tensor) -> dict[str, list[Tensor]]:
        self.check_patch_size(images.shape[2:])
        maps = [F.avg_pool3d(images, steps, steps) for steps in self.strides]
        return {
            "classification": [20.0 * (each - 0.9) for each in maps],
            "box_regression": [torch.zeros_like(each).repeat(1, 6, 1, 1, 1) for each in maps],
        }


def network(kind: type[Detector] = Detector, stride: Any = 2, levels: tuple[int, ...] = (1, 2, 3)) -> Detector:
    torch.manual_seed(0)
    backbone = ResNet("basic", [1, 1, 1, 1], [4, 8, 16, 32], 3, 1, 3, stride, no_max_pool=True, feed_forward=False)
    return kind(backbone, [(2, 2, 2)], levels, channels=16)


def pooled(images: Tensor) -> tuple[Tensor, ...]:
    """Something local of every resolution."""
    return tuple(F.avg_pool3d(images, step, step) for step in (2, 4, 8))


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize("size", SIZES)
def test_windows_give_the_maps_of_the_whole_volume(size: tuple[int, ...], mode: str) -> None:
    image = torch.rand(2, 1, *size)
    for overlap in (0.0, 0.25, 0.6):
        inferer = AlignedWindowInferer((16, 16, 16), (8, 8, 8), overlap, sw_batch_size=3, mode=mode)
        for got, expected in zip(inferer(image, pooled), pooled(image), strict=True):
            assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("overlap", [0.2, 0.4, 0.6, 0.8])
def test_a_share_that_is_no_binary_number_makes_no_more_windows(overlap: float) -> None:
    windows = []
    inferer = AlignedWindowInferer((80,), (8,), overlap)
    inferer(torch.zeros(1, 1, 400), lambda batch: windows.append(len(batch)) or batch.clone())
    assert sum(windows) == -(-320 // round(80 * (1 - overlap))) + 1


@pytest.mark.parametrize(("overlap", "step"), [(0.0, 24), (0.25, 16), (0.33, 16), (0.34, 8), (0.9, 8)])
def test_windows_begin_on_the_grid_and_overlap_as_much_as_asked(overlap: float, step: int) -> None:
    places = torch.arange(72.0).view(1, 1, 72, 1, 1).expand(1, 1, 72, 24, 24)
    begins = []

    def look(windows: Tensor) -> Tensor:
        begins.append(int(windows[0, 0, 0, 0, 0]))
        return windows.clone()

    out = AlignedWindowInferer((24, 24, 24), (8, 8, 8), overlap)(places, look)
    assert torch.equal(out, places)
    assert begins == list(range(0, 49, step))


@pytest.mark.parametrize("size", [(16, 16, 16), (48, 16, 27), (9, 16, 33)])
@pytest.mark.parametrize("windows", [False, True])
def test_an_object_is_found_where_it_is(size: tuple[int, ...], windows: bool) -> None:
    detector = sliding_detector(network(BrightCells), (16, 16, 16))
    corners = [[0, 0, 0], [6, 4, 10], [side // 2 * 2 - 2 for side in size]]
    image = torch.zeros(1, 1, *size)
    for x, y, z in corners:
        image[0, 0, x : x + 2, y : y + 2, z : z + 2] = 1.0
    (found,) = detector(image, use_inferer=windows)
    assert sorted(found) == ["box", "label", "label_scores"]
    certain = found["box"][found["label_scores"] > 0.5]
    assert sorted(certain.tolist()) == sorted([*corner, *(place + 2 for place in corner)] for corner in corners)
    assert (found["label"] == 0).all()


@pytest.mark.parametrize(("stride", "levels"), [(1, (1,)), ((2, 2, 1), (1, 2))])
def test_windows_go_with_a_single_level_of_stride_1_and_with_one_axis_of_it(
    stride: Any, levels: tuple[int, ...]
) -> None:
    detector = sliding_detector(network(BrightCells, stride, levels), (16, 16, 16))
    image = torch.zeros(1, 1, 16, 24, 16)
    image[0, 0, 4:8, 18:22, 2:6] = 1.0
    (whole,), (windows,) = detector(image), detector(image, use_inferer=True)
    assert len(whole["box"]) > 1
    assert all(torch.allclose(windows[key], whole[key]) for key in whole)


@pytest.mark.parametrize("size", [(16, 16, 16), (27, 16, 33), (9, 40, 10)])
@pytest.mark.parametrize("windows", [False, True])
def test_the_edge_of_an_image_goes_on_beyond_it(size: tuple[int, ...], windows: bool) -> None:
    seen = []
    one = network(BrightCells)
    one.register_forward_pre_hook(lambda _, given: seen.extend(given[0].unique().tolist()))
    sliding_detector(one, (16, 16, 16))(torch.full((1, 1, *size), -1.0), use_inferer=windows)
    assert set(seen) == {-1.0}


def test_images_of_several_sizes_are_found_in_as_if_alone() -> None:
    detector = sliding_detector(network(BrightCells), (16, 16, 16))
    images = [torch.rand(1, *size).round() for size in ((9, 16, 12), (16, 8, 21))]
    for together, image in zip(detector(images), images, strict=True):
        alone = detector(image[None])[0]["box"]
        assert len(alone) > 3
        inside = torch.as_tensor(image.shape[1:])
        assert (together["box"][:, 3:] <= inside).all()
        assert {tuple(box) for box in alone.tolist()} == {tuple(box) for box in together["box"].tolist()}


def test_the_anchors_of_a_scan_are_not_kept() -> None:
    detector = sliding_detector(network(BrightCells), (16, 16, 16))
    detector(torch.rand(1, 1, 24, 16, 16))
    assert detector.anchors is None


def test_boxes_are_clipped_to_the_image_and_not_to_its_padding() -> None:
    detector = sliding_detector(network(BrightCells), (16, 16, 16))
    image = torch.zeros(1, 1, 11, 16, 16)
    image[0, 0, 10:, :2, :2] = 2.0
    (found,) = detector(image)
    assert found["box"][0].tolist() == [10.0, 0.0, 0.0, 11.0, 2.0, 2.0]


@pytest.mark.parametrize("size", [(16, 16, 16), (8, 8, 8), (27, 16, 33)])
@pytest.mark.parametrize("windows", [False, True])
def test_a_scan_without_objects_has_no_boxes(size: tuple[int, ...], windows: bool) -> None:
    detector = sliding_detector(network().eval(), (16, 16, 16))
    with torch.no_grad():
        (found,) = detector(torch.zeros(1, 1, *size), use_inferer=windows)
    assert found["box"].shape == (0, 6)
    assert found["label"].shape == found["label_scores"].shape == (0,)


def test_boxes_of_an_untrained_network_are_inside_and_apart() -> None:
    detector = sliding_detector(network().eval(), (16, 16, 16), score_threshold=0.0, max_boxes=7, keys=("b", "l"))
    with torch.no_grad():
        (found,) = detector(torch.rand(1, 1, 20, 16, 16), use_inferer=True)
    boxes, scores = found["b"], found["l_scores"]
    assert boxes.shape == (7, 6)
    assert scores.sort(descending=True).values.equal(scores)
    assert (boxes[:, :3] >= 0).all()
    assert (boxes[:, 3:] <= torch.tensor([20, 16, 16])).all()


def test_the_network_is_shared_and_stays_in_its_mode() -> None:
    one = network()
    one.encoder.eval()
    modes = [module.training for module in one.modules()]
    detector = sliding_detector(one, (16, 16, 16))
    assert detector.network is one
    assert [module.training for module in one.modules()] == modes
    assert not detector.training
    assert list(detector.state_dict()) == [f"network.{name}" for name in one.state_dict()]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: sliding_detector(network(), (16, 16, 12)),
            UserError,
            r"\[16, 16, 12\] must be multiples of \[8, 8, 8\]",
        ),
        (
            lambda: sliding_detector(network(stride=1), (16, 16, 16)),
            UserError,
            r"strides \[\[1, 1, 1\], \[2, 2, 2\], .* cannot be put together from windows. Leave out",
        ),
        (lambda: sliding_detector(network(), (16, 16, 16), overlap=1.0), ValueError, r"`overlap` .* \[0, 1\), got 1.0"),
        (
            lambda: sliding_detector(ResNet("basic", [1] * 4, [4] * 4, n_input_channels=1), (16, 16, 16)),  # type: ignore[arg-type]
            UserError,
            r"weights are those of ResNet, which is no detector\. Give --weights",
        ),
        *(
            (lambda given=given: sliding_detector(network(), (16, 16, 16), **given), ValueError, message)
            for given, message in (
                ({"score_threshold": 50}, r"`score_threshold` must be in \[0, 1\], got 50"),
                ({"overlap_threshold": -1}, r"`overlap_threshold` must be in \[0, 1\], got -1"),
                ({"max_boxes": 0}, r"`max_boxes` must be a whole number from 1, got 0"),
                ({"max_boxes": 1.5}, r"got 1\.5"),
                ({"windows_at_once": 0}, r"`windows_at_once` .* got 0"),
            )
        ),
        (lambda: AlignedWindowInferer((16, 12), (8, 8)), ValueError, r"`roi_size` .* \[8, 8\], got \[16, 12\]"),
        (lambda: AlignedWindowInferer((16,), (8, 8)), ValueError, r"got \[16\]"),
    ],
)
def test_messages(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
