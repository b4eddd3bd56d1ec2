from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_ssl.engines.prepare_batch import PrepareStreams, prepare_streams
from monai_ssl.transforms.block_mask import RandBlockMaskd
from monai_ssl.utils.errors import UserError


def test_tensors_come_plain_and_the_rest_stays_behind() -> None:
    image = MetaTensor(torch.rand(2, 1, 4, 4, 4), affine=torch.eye(4) * 2)
    batch = {
        "labeled": {"image": image, "label": torch.ones(2, 1, 4, 4, 4), "case": ["a", "b"], "number": 3},
        "unlabeled": {"image": image + 1, "case": ["c", "d"]},
    }
    out = prepare_streams(batch, "cpu")
    assert {stream: list(entries) for stream, entries in out.items()} == {
        "labeled": ["image", "label"],
        "unlabeled": ["image"],
    }
    assert all(type(tensor) is torch.Tensor for entries in out.values() for tensor in entries.values())
    assert torch.equal(out["labeled"]["image"], image.as_tensor())
    assert isinstance(batch["labeled"]["image"], MetaTensor)
    assert batch["labeled"]["case"] == ["a", "b"]


def test_an_absent_stream_stays_absent() -> None:
    assert list(prepare_streams({"labeled": {"image": torch.ones(1)}})) == ["labeled"]
    assert prepare_streams({}) == {}


def test_further_arguments_reach_the_tensors() -> None:
    image = torch.rand(2, 3, 4, 4, 4)
    out = prepare_streams({"labeled": {"image": image}}, "cpu", True, memory_format=torch.channels_last_3d)
    assert out["labeled"]["image"].is_contiguous(memory_format=torch.channels_last_3d)
    out = prepare_streams({"labeled": {"image": image}}, torch.device("meta"), dtype=torch.float64)
    assert (out["labeled"]["image"].device.type, out["labeled"]["image"].dtype) == ("meta", torch.float64)


def doubled(entries: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**entries, "twice": 2 * entries["image"]}


def test_batches_are_transformed_on_the_device_as_torch_was_seeded() -> None:
    images = torch.randn(3, 1, 8, 8, 8)
    prepare = PrepareStreams({"unlabeled": [doubled, RandBlockMaskd(["image"], block=4)], "absent": [doubled]})
    outs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        prepare.transforms["unlabeled"][1].transform.R.rand(5)  # what was drawn before does not matter
        outs.append(prepare({"unlabeled": {"image": images, "case": ["a", "b", "c"]}, "labeled": {"image": images}}))
    assert torch.equal(outs[0]["unlabeled"]["mask"], outs[1]["unlabeled"]["mask"])
    assert not torch.equal(outs[0]["unlabeled"]["mask"], outs[2]["unlabeled"]["mask"])
    assert torch.equal(outs[0]["unlabeled"]["twice"], 2 * images)
    assert torch.equal(outs[0]["unlabeled"]["image"] == 0, outs[0]["unlabeled"]["mask"])
    assert torch.equal(outs[0]["labeled"]["image"], images)
    assert set(outs[0]) == {"unlabeled", "labeled"}


def test_a_batch_that_a_transform_refuses() -> None:
    prepare = PrepareStreams({"unlabeled": [RandBlockMaskd(["image"], block=16)]})
    with pytest.raises(UserError, match=r"RandBlockMaskd refuses the unlabeled batch: `block` \(16,\) leaves"):
        prepare({"unlabeled": {"image": torch.zeros(1, 1, 8, 8, 8)}})
