from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_ssl.report.pairs import CasePair, paired_cases, shared_seeds, worst_median_best
from monai_ssl.report.study_files import StudyFiles
from tests.report.pages import study_content
from tests.study.contents import array


def test_a_pair_is_the_mean_over_the_seeds_that_both_have() -> None:
    content = study_content(seeds=3)
    for entry in content["scores"]:
        if (entry["budget"], entry["method"]) == ("2", "mt"):
            entry["seeds"], entry["values"] = entry["seeds"][:2], entry["values"][:2]
            entry["values"][0][1] = None
    study = StudyFiles(Path(), content, None)
    seeds = shared_seeds(study)
    assert seeds == [0, 1]
    pairs = paired_cases(study, seeds)
    assert [pair.name for pair in pairs] == ["c0.nii.gz", "c2.nii.gz", "c3.nii.gz", "c4.nii.gz"]
    for pair in pairs:
        assert pair.baseline == pytest.approx(array(content, "2", "sup")[:2, pair.number].mean())
        assert pair.method == pytest.approx(array(content, "2", "mt")[:2, pair.number].mean())
    assert paired_cases(study, []) == []


def test_the_worst_is_the_farthest_where_less_is_better() -> None:
    pairs = [CasePair(i, f"c{i}", value, 0.0) for i, value in enumerate(np.array([3.0, 1.0, 2.0, 5.0, 4.0]))]
    of_dice = [(rank, pair.method) for rank, pair in worst_median_best(pairs, "dice")]
    assert of_dice == [("Worst", 1.0), ("Median", 3.0), ("Best", 5.0)]
    of_distance = [(rank, pair.method) for rank, pair in worst_median_best(pairs, "hausdorff_95")]
    assert of_distance == [("Worst", 5.0), ("Median", 3.0), ("Best", 1.0)]
    assert [rank for rank, _ in worst_median_best(pairs[:2], "dice")] == ["Worst", "Best"]
    assert [rank for rank, _ in worst_median_best(pairs[:1], "dice")] == ["Only case"]
    assert worst_median_best([], "dice") == []
