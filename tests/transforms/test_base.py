from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_ssl.transforms.base import Params, RandBatchTransform, RandBatchTransformd, stacked
from tests.helpers import check_transform, same, seed


class Add(RandBatchTransform):
    """Adds a drawn number, and tells it."""

    def draw(self, shape: Sequence[int]) -> Params:
        return {"number": self.R.uniform(1, 2)}

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        numbers = stacked(params, "number", images.device).to(images.dtype)
        return images + numbers.view(-1, *[1] * (images.ndim - 1)), {"number": numbers}

    def skipped(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return images, {"number": torch.zeros(len(images))}


class Addd(RandBatchTransformd):
    def __init__(self, keys: Sequence[str], prob: float = 1.0) -> None:
        super().__init__(keys, Add(prob), {"number": "added"})


IMAGE = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def test_the_batteries_hold() -> None:
    check_transform(Add, Addd, IMAGE)


@pytest.mark.parametrize("prob", [0.0, 0.5, 1.0])
def test_a_batch_is_its_cases_one_by_one(prob: float) -> None:
    batch = torch.stack([IMAGE, 2 * IMAGE, 3 * IMAGE, 4 * IMAGE])
    before = batch.clone()
    whole, single = seed(Add(prob)), seed(Add(prob))
    for _ in range(5):
        out = whole.batch(batch)
        for number, case in enumerate(batch):
            assert torch.equal(out[number], single(case))
            assert torch.equal(whole.extras["number"][number], single.extras["number"])
    assert torch.equal(batch, before)


def test_the_dictionary_puts_extra_outputs_beside_the_images_for_a_case_and_a_batch() -> None:
    transform, array = seed(Addd(["image", "other"])), seed(Add())
    data = {"image": IMAGE, "other": -IMAGE, "name": "case"}
    out = transform(data)
    assert same(out["image"], array(IMAGE))
    assert torch.allclose(out["other"] + IMAGE, out["added"].expand_as(IMAGE))
    assert out["name"] == "case"
    assert "added" not in data
    batched = transform.batch({"image": torch.stack([IMAGE, IMAGE]), "other": torch.stack([IMAGE, IMAGE])})
    assert batched["added"].shape == (2,)
    assert batched["added"][0] != batched["added"][1]
    assert torch.equal(batched["image"], batched["other"])


def test_what_was_drawn_is_applied_again_and_metadata_stay() -> None:
    transform = seed(Add())
    image = MetaTensor(IMAGE, affine=torch.diag(torch.tensor([2.0, 1.0, 1.0, 1.0])), meta={"name": "x"})
    first = transform(image)
    assert same(transform(image, randomize=False), first)
    assert first.meta["name"] == "x"
    assert not torch.equal(transform(image), first)


def test_an_array_of_numpy_comes_out_as_a_tensor() -> None:
    array = np.asarray(IMAGE)
    assert torch.equal(seed(Add())(array), seed(Add())(IMAGE))


def test_a_chance_is_a_chance() -> None:
    with pytest.raises(ValueError, match=r"`prob` must be in \[0, 1\], got 1.5"):
        Add(1.5)
