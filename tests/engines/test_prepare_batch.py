from __future__ import annotations

import torch
from monai.data import MetaTensor

from monai_ssl.engines.prepare_batch import prepare_streams


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
