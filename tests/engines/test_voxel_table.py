from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from torch import nn

from monai_ssl.engines.voxel_table import draw_voxels, voxel_table
from tests.helpers import same


def test_as_many_voxels_of_each_class_each_standing_for_its_share():
    label = torch.zeros(6, 7, 8)
    label[1:3, 2:4, 5:7] = 2
    points, classes, counts = draw_voxels(label, 20, seed=3)
    assert classes.tolist() == [0] * 20 + [2] * 8
    assert torch.equal(label[tuple(points.T)].long(), classes)
    assert len({tuple(point) for point in points.tolist()}) == 28
    assert counts[:20].sum().item() == 6 * 7 * 8 - 8
    assert counts[20:].tolist() == [1.0] * 8
    assert same(draw_voxels(label, 20, seed=3), (points, classes, counts))
    assert not torch.equal(draw_voxels(label, 20, seed=4)[0], points)


class Intensity(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, images):
        assert images.shape[2:] == (4, 4, 4)
        return [self.factor * images]


def test_all_feature_sets_are_read_at_the_same_voxels_in_tiles():
    # an image that says where each voxel is, and a mask that follows from it
    scans = []
    for number, shape in enumerate(((9, 4, 6), (3, 5, 4))):
        image = torch.arange(np.prod(shape), dtype=torch.float32).reshape(1, *shape) + 1000 * number
        scans.append({"image": image, "label": (image % 5 == 0).float()})
    loader = DataLoader(Dataset(scans), batch_size=1)
    table = voxel_table(loader, {"once": Intensity(1.0), "twice": Intensity(2.0)}, (4, 4, 4), per_class=30)
    once = table.features["once"][:, 0]
    assert np.array_equal(table.features["twice"][:, 0], 2 * once)
    assert np.array_equal(once.round() % 5 == 0, table.labels == 1)
    assert np.array_equal(once >= 999.5, table.cases == 1)
    for case, size in ((0, 9 * 4 * 6), (1, 3 * 5 * 4)):
        mine = table.cases == case
        assert table.counts[mine].sum() == pytest.approx(size)
        assert len(np.unique(once[mine].round())) == mine.sum()
        assert (table.labels[mine] == 0).sum() == 30
