"""The tutorial's method is as short as the tutorial says, and holds what every method of the package must hold."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from torch import nn

from monai_ssl.objectives import Objective
from tests import helpers
from tests.objectives import semi

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "virtual_adversarial"
METHODS = EXAMPLE.parents[2] / "bundles" / "semi_segmentation" / "configs" / "methods"


@pytest.fixture
def module() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("virtual_adversarial", EXAMPLE / "virtual_adversarial.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["virtual_adversarial"] = loaded
    yield spec.loader.exec_module(loaded) or loaded
    del sys.modules["virtual_adversarial"]


@pytest.fixture
def method(module: ModuleType) -> Callable[[nn.Module], Objective]:
    return lambda network: module.VirtualAdversarial(network, semi.cross_entropy)


@pytest.fixture
def batch() -> semi.Batch:
    return semi.two_views()


def test_the_three_files_have_the_lines_that_the_tutorial_says() -> None:
    files = sorted(path for path in EXAMPLE.iterdir() if path.is_file())
    assert [path.suffix for path in files] == [".py", ".py", ".yaml"]
    lines = sum(len(path.read_text().splitlines()) for path in files)
    assert lines <= 100
    tutorial = " ".join((EXAMPLE.parents[1] / "add_a_method.md").read_text().split())
    assert f"files have {lines} lines together" in tutorial
    assert all(f"literalinclude}} examples/virtual_adversarial/{path.name}" in tutorial for path in files)


def test_the_settings_are_those_of_every_method() -> None:
    settings = yaml.safe_load((EXAMPLE / "virtual_adversarial.yaml").read_text())
    assert list(settings) == list(yaml.safe_load((METHODS / "mean_teacher.yaml").read_text()))


def test_it_keeps_the_contract_of_a_method(method: Callable[[nn.Module], Objective], batch: semi.Batch) -> None:
    helpers.check_objective(
        method(semi.Net(dropout=0.2)), batch, reaches={"supervised": "network", "virtual": "network"}
    )
    semi.check_supervised_at_weight_zero(method, "virtual", batch)
    semi.check_resumes(method, batch)
    network = semi.Net()
    alone = method(network)({"labeled": batch["labeled"]})
    assert list(alone) == ["supervised"]


def test_it_overfits(method: Callable[[nn.Module], Objective], batch: semi.Batch) -> None:
    helpers.check_overfits(method(semi.Net(sharpness=1)), batch, steps=60, learning_rate=3e-2)


def test_the_change_is_the_one_that_a_linear_network_is_harmed_by_most(module: ModuleType) -> None:
    # of a 1 x 1 x 1 convolution of two channels the logits' difference moves along the difference of the weights alone
    network = nn.Conv3d(2, 2, 1)
    objective = module.VirtualAdversarial(network, semi.cross_entropy, radius=0.2)
    images = torch.randn(1, 2, 1, 1, 1)
    direction = (network.weight[1] - network.weight[0]).detach().view(1, 2, 1, 1, 1)
    change = module.scaled(direction, 0.2)
    p, *moved = (torch.softmax(network(images + sign * change), 1) for sign in (0, 1, -1))
    by_hand = [(p * (p / q).log()).sum().item() for q in moved]
    assert min(abs(objective._virtual(images).item() - value) for value in by_hand) < 1e-5
