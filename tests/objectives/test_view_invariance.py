from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_ssl.losses.contrastive import nt_xent
from monai_ssl.losses.vicreg import vicreg_terms
from monai_ssl.networks.heads import ProjectionHead
from monai_ssl.objectives.base import Task
from monai_ssl.objectives.multitask import Multitask
from monai_ssl.objectives.view_invariance import ContrastiveViews, RegularizedViews
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives.pretext import images, network

SHAPES = [(8, 2, 2, 2)]


def objective(task: Task) -> Multitask:
    return Multitask(network(projection=ProjectionHead(SHAPES, 8)), [task])


def views(noise: float = 0.3) -> dict[str, dict[str, Tensor]]:
    scans = images(4)[:, None]
    generator = torch.Generator().manual_seed(2)
    noisy = scans + noise * torch.randn(4, 2, 1, 8, 8, 8, generator=generator)
    return {"unlabeled": {"image": noisy}}


@pytest.mark.parametrize("task", [ContrastiveViews, RegularizedViews])
def test_battery(task: type[Task]) -> None:
    helpers.check_objective(objective(task()), views())


def test_terms_are_those_of_the_views_of_a_case() -> None:
    contrast, regular = objective(ContrastiveViews(temperature=0.2)), objective(RegularizedViews())
    features = contrast.network(views()["unlabeled"]["image"].flatten(0, 1))["projection"]
    first, second = features[0::2], features[1::2]
    assert torch.allclose(contrast(views())["contrast"], nt_xent(first, second, temperature=0.2))
    regular.load_state_dict(contrast.state_dict())
    terms, expected = regular(views()), vicreg_terms(first, second)
    assert terms.keys() == expected.keys()
    assert all(torch.allclose(terms[name], expected[name]) for name in terms)


def test_accuracy_is_that_of_nearest_neighbours() -> None:
    task = ContrastiveViews()
    alike = torch.eye(4, 8).repeat_interleave(2, 0)
    task({"projection": alike}, {})
    assert task.figures["contrast_accuracy"] == 1.0
    task({"projection": torch.eye(4, 8).repeat(2, 1)}, {})  # every anchor's twin belongs to another case
    assert task.figures["contrast_accuracy"] == 0.0


@pytest.mark.parametrize("task", [ContrastiveViews, RegularizedViews])
def test_overfits(task: type[Task]) -> None:
    helpers.check_overfits(objective(task()), views(), steps=60, ratio=0.8)


def test_views_that_do_not_divide_the_batch() -> None:
    with pytest.raises(ValueError, match="`views` must divide the 3 images of a batch, got 2"):
        ContrastiveViews()({"projection": torch.randn(3, 8)}, {})


def test_crops_of_one_scan_are_no_negatives() -> None:
    features = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    scans = torch.tensor([5, 5, 2])
    term = ContrastiveViews()({"projection": features}, {"scan": scans})["contrast"]
    assert torch.allclose(term, nt_xent(features.unflatten(0, (3, 2)), groups=scans))
    assert not torch.allclose(term, nt_xent(features.unflatten(0, (3, 2))))


@pytest.mark.parametrize("entries", [{"scan": torch.tensor([3, 3, 3])}, {}])
def test_one_scan_in_a_batch_has_no_negative(entries: dict[str, Tensor]) -> None:
    features = torch.randn(6 if entries else 2, 8)
    with pytest.raises(UserError, match="two scans in every batch: list two unlabelled scans"):
        ContrastiveViews()({"projection": features}, entries)
