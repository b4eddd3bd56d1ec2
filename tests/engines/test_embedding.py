from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor

from monai_ssl.engines.embedding import describe_scans, write_embeddings
from monai_ssl.utils.errors import UserError


def loader(count=3, **changed):
    scans = [torch.full((2, 4, 4, 4), float(number)) for number in range(count)]
    for number, value in changed.items():
        scans[int(number[1:])][0, 0, 0, 0] = value
    return DataLoader(Dataset([{"image": MetaTensor(scan)} for scan in scans]), batch_size=1)


def sums(image):
    assert type(image) is torch.Tensor
    return image.sum(dim=(2, 3, 4))


def test_each_scan_has_a_row_in_each_table():
    tables = describe_scans(loader(), {"sums": sums, "peak": lambda image: image.numpy().max(keepdims=True)[0, 0]})
    assert np.array_equal(tables["sums"], [[0, 0], [64, 64], [128, 128]])
    assert np.array_equal(tables["peak"], [[0], [1], [2]])


def test_no_scan_and_a_broken_one_are_refused():
    with pytest.raises(UserError, match="no scan to describe"):
        describe_scans([], {"sums": sums})
    with pytest.raises(UserError, match="sums features of scan 2 are not finite"):
        describe_scans(loader(s1=float("nan")), {"sums": sums})


def test_embeddings_are_written_once(tmp_path):
    path = tmp_path / "new" / "embeddings.csv"
    write_embeddings(path, loader(), sums, ["a.nii", "b.nii", "deep,er/c.nii"])
    with open(path, newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows == [["case", "f0", "f1"], ["a.nii", "0", "0"], ["b.nii", "64", "64"], ["deep,er/c.nii", "128", "128"]]
    with pytest.raises(UserError, match=r"embeddings\.csv: is there already. Give --overwrite true"):
        write_embeddings(path, loader(1), sums, ["a"])
    write_embeddings(path, loader(1), sums, ["a"], overwrite=True)
    assert path.read_text() == "case,f0,f1\na,0,0\n"
