from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_ssl.transforms.block_mask import RandBlockMask, RandBlockMaskd, block_mask, fill_masked
from tests.helpers import check_transform, seed


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = (8, 12, 6)) -> Tensor:
    return 2 + 3 * torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(0))


def test_the_mask_voxel_by_voxel() -> None:
    generator = torch.Generator().manual_seed(1)
    block, shape = (3, 5, 2), (8, 12, 6)
    grids = torch.rand(2, 3, 3, 3, generator=generator) < 0.5
    mask = block_mask(grids, block, shape)
    assert mask.shape == (2, 1, *shape)
    for case, x, y, z in product(range(2), *map(range, shape)):
        assert mask[case, 0, x, y, z] == grids[case, x // 3, y // 5, z // 2]


def test_fills_against_one_voxel_at_a_time() -> None:
    images = volumes()
    mask = torch.rand(3, 1, 8, 12, 6, generator=torch.Generator().manual_seed(2)) < 0.4
    for fill in ("zero", "mean", "noise", "other"):
        out = fill_masked(images, mask, fill, seeds=torch.tensor([3, 4, 5]))
        assert torch.equal(out[~mask.expand_as(out)], images[~mask.expand_as(out)])
        for case, channel in product(range(3), range(2)):
            hidden = out[case, channel][mask[case, 0]]
            volume = images[case, channel]
            if fill == "zero":
                assert not hidden.any()
            elif fill == "mean":
                assert torch.allclose(hidden, volume.mean())
            elif fill == "noise":
                assert hidden.mean() == pytest.approx(float(volume.mean()), abs=4 * 3 / len(hidden) ** 0.5)
                assert hidden.std() == pytest.approx(float(volume.std()), rel=0.25)
            else:
                assert torch.equal(hidden, images[(case + 1) % 3, channel][mask[case, 0]])
    other = volumes() + 1
    out = fill_masked(images[:1], mask[:1], "other", other=other[:1])
    assert torch.equal(out[0, 0][mask[0, 0]], other[0, 0][mask[0, 0]])


def test_noise_follows_from_its_seed() -> None:
    images, mask = volumes(), torch.ones(3, 1, 8, 12, 6, dtype=torch.bool)
    first, again, other = (
        fill_masked(images, mask, "noise", seeds=torch.tensor(seeds)) for seeds in ([1, 2, 3], [1, 2, 3], [1, 2, 4])
    )
    assert torch.equal(first, again)
    assert torch.equal(first[:2], other[:2])
    assert not torch.equal(first[2], other[2])
    with pytest.raises(ValueError, match="`seeds` must be given for noise"):
        fill_masked(images, mask, "noise")


@pytest.mark.parametrize("shape", [(16, 8, 24), (16, 24)])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75, 0.99])
def test_the_hidden_fraction_is_the_same_in_every_draw(ratio: float, shape: tuple[int, ...]) -> None:
    transform = seed(RandBlockMask(ratio, block=4))
    image = volumes(1, 1, shape)[0]
    blocks = image.numel() // 4 ** len(shape)
    expected = min(max(round(ratio * blocks), 1), blocks - 1) / blocks
    masks = []
    for _ in range(10):
        out = transform(image)
        mask = transform.extras["mask"]
        assert mask.shape == (1, *shape)
        assert float(mask.float().mean()) == pytest.approx(expected)
        assert torch.equal(out == 0, mask)
        masks.append(mask)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 1


def test_every_block_is_hidden_equally_often() -> None:
    transform = seed(RandBlockMask(0.5, block=2))
    grids = [torch.as_tensor(transform.draw((1, 4, 4, 4))["grid"]) for _ in range(2000)]
    counts = torch.stack(grids).float().mean(0)
    assert torch.allclose(counts, torch.full_like(counts, 0.5), atol=5 * 0.5 / 2000**0.5)


@pytest.mark.parametrize("fill", ["zero", "mean", "noise"])
def test_a_batch_is_its_cases_one_by_one(fill: Any) -> None:
    images = volumes()
    whole, single = seed(RandBlockMask(0.5, block=3, fill=fill)), seed(RandBlockMask(0.5, block=3, fill=fill))
    out, mask = whole.batch(images), whole.extras["mask"]
    for number, image in enumerate(images):
        assert torch.equal(out[number], single(image))
        assert torch.equal(mask[number], single.extras["mask"])


def test_millimetres_are_voxels_at_the_spacing() -> None:
    assert RandBlockMask(block=16, spacing=[1.0, 2.0, 5.0]).block(3) == (16, 8, 3)
    assert RandBlockMask(block=[4, 5, 6]).block(3) == (4, 5, 6)
    assert RandBlockMask(block=2.0, spacing=5.0).block(2) == (1, 1)


@pytest.mark.parametrize("fill", ["zero", "mean", "noise"])
def test_the_batteries_hold(fill: Any) -> None:
    image = volumes(1)[0]
    check_transform(
        lambda prob: RandBlockMask(0.5, 3, fill=fill, prob=prob),
        lambda keys, prob: RandBlockMaskd(keys, ratio=0.5, block=3, fill=fill, prob=prob),
        image,
    )


def test_the_dictionary_tells_the_mask_and_where_nothing_is_hidden_an_empty_one() -> None:
    image = volumes(1)[0]
    out = seed(RandBlockMaskd(["image"], ratio=0.5, block=3))({"image": image})
    assert torch.equal(out["image"] == 0, out["mask"].expand_as(image))
    assert not RandBlockMaskd(["image"], prob=0.0, block=3)({"image": image})["mask"].any()
    assert "mask" not in RandBlockMaskd(["image"], None, block=3)({"image": image})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratio": 0.0}, r"`ratio` must be in \(0, 1\), got 0.0"),
        ({"ratio": 1.0}, "`ratio` must be"),
        ({"block": 0}, "`block` must be whole voxels from 1"),
        ({"block": 2.5}, "`block` must be whole voxels"),
        ({"spacing": 0.0}, "`block` must be whole voxels"),
        ({"fill": "black"}, "`fill` must be zero, mean, noise or other, got 'black'"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandBlockMask(**arguments)


def test_volumes_that_it_cannot_mask() -> None:
    with pytest.raises(ValueError, match=r"leaves one block in a volume of \(8, 8, 8\)"):
        RandBlockMask(block=8)(torch.zeros(1, 8, 8, 8))
    with pytest.raises(ValueError, match="`block` must be one number or one for each of 2 axes"):
        RandBlockMask(block=[4, 4, 4])(torch.zeros(1, 8, 8))
    with pytest.raises(ValueError, match="`fill` other needs a second scan"):
        RandBlockMask(block=4, fill="other")(torch.zeros(1, 8, 8, 8))
