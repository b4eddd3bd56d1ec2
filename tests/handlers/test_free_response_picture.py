from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from monai_ssl.handlers.free_response_picture import FreeResponsePicture, draw_free_response
from monai_ssl.metrics.free_response import FALSE_POSITIVE_RATES, sensitivities_of
from monai_ssl.utils.errors import UserError


def record(**classes: tuple[int, list[float], list[float]]) -> dict[str, Any]:
    keys = ("boxes", "hit_scores", "false_scores")
    entries = {name: dict(zip(keys, entry, strict=True)) for name, entry in classes.items()}
    return {"image": "a.nii", "boxes": sum(entry[0] for entry in classes.values()), "classes": entries}


SOME = [
    record(nodule=(2, [0.9, 0.4], [0.6, 0.3]), node=(1, [], [0.7])),
    record(nodule=(1, [0.5], []), node=(0, [], [])),
    record(nodule=(0, [], [0.8]), node=(1, [0.2], [0.1] * 9)),
]
NODULES = [{**case, "classes": {"nodule": case["classes"]["nodule"]}} for case in SOME]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What is plotted: x, y and the format or the style of each line; and each band."""
    kept: dict[str, list[Any]] = {"plot": [], "fill_between": []}
    for name in kept:
        real = getattr(Axes, name)

        def remember(self: Any, *given: Any, name: str = name, real: Any = real, **options: Any) -> Any:
            kept[name].append((*given, options))
            return real(self, *given, **options)

        monkeypatch.setattr(Axes, name, remember)
    return kept


HEALTHY, SILENT, FOUND = record(nodule=(0, [], [0.5])), record(nodule=(3, [], [])), record(node=(1, [0.5], []))


@pytest.mark.parametrize("cases", [SOME, NODULES, SOME[:1], [HEALTHY], [SILENT] * 2, [FOUND]])
def test_any_cases_give_a_picture(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    FreeResponsePicture(tmp_path / "froc.png", "Nodules").draw(cases)
    with Image.open(tmp_path / "froc.png") as picture:
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (1080, 720))
    assert plt.get_fignums() == []
    assert [path.name for path in tmp_path.iterdir()] == ["froc.png"]


def test_the_seven_rates_are_marked_on_the_curve(drawn: dict[str, list[Any]], tmp_path: Path) -> None:
    draw_free_response(NODULES, tmp_path / "froc.png", resamples=50)
    solid, dashed, (x, y, form, _) = drawn["plot"]
    assert form == "o"
    assert list(x) == list(FALSE_POSITIVE_RATES)
    assert np.allclose(y, sensitivities_of(NODULES))
    # three false positives in three scans: the curve ends at a rate of 1, and its level goes on
    assert max(solid[0]) == pytest.approx(1.0)
    assert min(dashed[0]) == pytest.approx(1.0)
    assert set(np.round(dashed[1], 12)) == {1.0}
    rates = np.concatenate([solid[0], dashed[0][1:]])
    levels = np.concatenate([solid[1], dashed[1][1:]])
    assert dict(zip(x, y, strict=True)).items() <= dict(zip(rates, levels, strict=True)).items()


def test_the_band_is_that_of_resampled_cases(drawn: dict[str, list[Any]], tmp_path: Path) -> None:
    draw_free_response(NODULES, tmp_path / "froc.png", resamples=40, seed=7)
    ((rates, low, high, _),) = drawn["fill_between"]
    draws = np.random.default_rng(7).integers(3, size=(40, 3))
    slow = [sensitivities_of([NODULES[place] for place in row], rates=tuple(rates)) for row in draws]
    assert np.allclose([low, high], np.nanpercentile(slow, (2.5, 97.5), axis=0))
    assert (low <= high).all()


def test_classes_have_curves_beside_that_of_all(drawn: dict[str, list[Any]], tmp_path: Path) -> None:
    draw_free_response(SOME, tmp_path / "froc.png", resamples=5)
    assert [line[-1]["label"] for line in drawn["plot"] if "label" in line[-1]] == ["all classes", "nodule", "node"]
    one = [{**SOME[0], "classes": {**SOME[0]["classes"], "node": {"boxes": 0, "hit_scores": [], "false_scores": []}}}]
    drawn["plot"].clear()
    draw_free_response(one, tmp_path / "froc.png")
    assert [line[-1]["label"] for line in drawn["plot"] if "label" in line[-1]] == ["all classes", "nodule"]


def test_the_title_tells_cpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr(Axes, "set_title", lambda self, title, **options: titles.append(title))
    draw_free_response([record(nodule=(1, [0.5], []))] * 2, tmp_path / "froc.png", resamples=5)
    draw_free_response([record(nodule=(0, [], [0.5]))], tmp_path / "froc.png")
    assert titles == ["CPM 1.000: 2 scans, 2 boxes", "1 scan, 0 boxes"]


def test_no_case(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`cases` must hold at least one case to draw froc.png, got none"):
        draw_free_response([], tmp_path / "froc.png")


def test_draws_without_a_box_have_no_band(drawn: dict[str, list[Any]], tmp_path: Path) -> None:
    cases = [NODULES[1], *[NODULES[2]] * 40]
    seed = next(seed for seed in range(20) if 0 not in np.random.default_rng(seed).integers(41, size=(1, 41)))
    draw_free_response(cases, tmp_path / "froc.png", resamples=1, seed=seed)
    assert not drawn["fill_between"]
    assert (tmp_path / "froc.png").is_file()
