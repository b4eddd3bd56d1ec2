from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from monai_ssl.study.plan_file import read_plan
from monai_ssl.study.record import digest
from monai_ssl.study.sources import Sources
from monai_ssl.utils.errors import UserError
from tests.study.helpers import open_study, write_figures, write_plan, write_rounds_plan


def test_a_bundle_that_changed_is_told_and_a_comment_is_no_change(tmp_path: Path) -> None:
    configs = tmp_path / "mine/configs"
    (configs / "methods").mkdir(parents=True)
    for name in ("train", "evaluate", "methods/supervised", "methods/mean_teacher"):
        (configs / f"{name}.yaml").write_text("a: 1\n")
    path = write_plan(tmp_path, bundle="mine")
    study, specs = open_study(path, tmp_path / "out")
    write_figures(study, specs[0], 0.5)
    (configs / "train.yaml").write_text("# new\na:  1\n")
    assert open_study(path, tmp_path / "out")[0].is_finished(specs[0])
    study, specs = open_study(path, tmp_path / "out")
    study.begin(specs[1])
    (configs / "train.yaml").write_text("a: 2\n")
    with pytest.raises(UserError, match="configs have changed since the study was started"):
        study.begin(specs[1])
    with pytest.raises(UserError, match=r"made with other mine/configs/train\.yaml"):
        open_study(path, tmp_path / "out")[0].is_finished(specs[0])


def test_digests_are_of_what_the_files_say(tmp_path: Path) -> None:
    sources = Sources(read_plan(write_rounds_plan(tmp_path)))
    bundle = tmp_path / "mine"
    names = ("train.yaml", "suggest.yaml", "methods/mean_teacher.yaml")
    content = {name: yaml.safe_load((bundle / "configs" / name).read_text()) for name in names}
    assert sources.digests(bundle, names) == {f"mine/configs/{name}": digest(one) for name, one in content.items()}
    sources.check_unchanged()


def test_a_bundle_that_cannot_suggest_serves_where_nothing_is_chosen(tmp_path: Path) -> None:
    path = write_rounds_plan(tmp_path)
    (tmp_path / "mine/configs/suggest.yaml").unlink()
    with pytest.raises(UserError, match=r"mine has no configs/suggest\.yaml"):
        read_plan(path)
    primary = {"method": "mean_teacher", "baseline": "supervised", "budget": 2}
    plan = read_plan(write_rounds_plan(tmp_path, methods=["supervised", "mean_teacher"], primary=primary))
    Sources(plan).check_unchanged()


@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        ("supervised", {}, False),  # by train.yaml
        ("mean_teacher", {}, True),  # by the method's file
        ("mean_teacher", {"unlabeled_batch_size": 0}, False),
        ("supervised", {"unlabeled_batch_size": 1}, True),
    ],
)
def test_who_needs_unlabelled_cases(method: str, settings: dict[str, int], expected: bool, tmp_path: Path) -> None:
    plan = read_plan(write_rounds_plan(tmp_path, {"label": "one", "method": method, "settings": settings}))
    assert Sources(plan).needs_unlabeled(plan.methods[-1]) is expected
