from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import VoxelMorph, VoxelMorphUNet
from scipy import ndimage
from torch import Tensor, nn

from monai_ssl.losses.pseudo_label import masked_cross_entropy
from monai_ssl.objectives.learned_transforms import LearnedTransforms
from monai_ssl.objectives.supervised import Supervised
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives import semi

TERMS = ["supervised", "registration", "synthetic", "atlas"]


class Given(nn.Module):
    """A registration that answers with a displacement it was given, and notes what it was asked."""

    def __init__(self, displacement: Tensor) -> None:
        super().__init__()
        self.displacement = nn.Parameter(displacement)
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
        self.asked.append((moving.detach(), fixed.detach()))
        return moving, self.displacement.expand(len(moving), -1, *moving.shape[2:])


def shift(*voxels: float, side: int = 6) -> Given:
    """What lies that many voxels further along an axis comes here."""
    return Given(torch.tensor(voxels).view(1, 3, 1, 1, 1).repeat(1, 1, side, side, side))


def voxelmorph() -> VoxelMorph:
    return VoxelMorph(VoxelMorphUNet(3, 2, 4, (4, 4), ()), integration_steps=3)


def method(
    network: nn.Module | None = None, registration: nn.Module | None = None, **arguments: Any
) -> LearnedTransforms:
    objective = LearnedTransforms(
        network or semi.Net(),
        semi.cross_entropy,
        registration or voxelmorph(),
        **{"window": 3, "min_similarity": 0.05, "appearance_sigma": 1.0, "shrink": 1, **arguments},
    )
    objective.progress = 0.5
    return objective


def boxes(labeled: int = 2, unlabeled: int = 3, side: int = 6) -> semi.Batch:
    """Noisy boxes, those of the unlabelled cases one voxel from those of the labelled ones."""
    batch = semi.two_views(side, labeled, unlabeled)
    return {"labeled": batch["labeled"], "unlabeled": {"image": batch["unlabeled"]["image"].roll(1, 2)}}


@pytest.fixture
def batch() -> semi.Batch:
    return boxes()


@pytest.mark.parametrize("decay", [None, 0.9])
def test_battery(decay: float | None, batch: semi.Batch) -> None:
    objective = method(semi.Net(dropout=0.2), decay=decay)
    reaches = {name: "registration" if name == "registration" else "network" for name in TERMS}
    helpers.check_objective(objective, batch, reaches=reaches)
    assert list(objective(batch)) == TERMS
    assert helpers.frozen(objective) == ([] if decay is None else [objective.teacher])
    assert objective.deployed is (objective.network if decay is None else objective.teacher)


def slow_similarity(moved: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Squared correlation within 3 x 3 x 3 voxels, zero beyond the edge, voxel by voxel."""
    found = np.zeros(moved.shape)
    moved, fixed = np.pad(moved, 1), np.pad(fixed, 1)
    for i, j, k in np.ndindex(found.shape):
        a, b = (image[i : i + 3, j : j + 3, k : k + 3].ravel() for image in (moved, fixed))
        a, b = a - a.mean(), b - b.mean()
        found[i, j, k] = (a @ b) ** 2 / (max(a @ a, 1e-5) * max(b @ b, 1e-5))
    return found


def further(image: np.ndarray) -> np.ndarray:
    """The image one voxel further along axis 0 and two back along axis 2, the border repeated."""
    i, j, k = np.indices(image.shape)
    return image[np.minimum(i + 1, 5), j, np.maximum(k - 2, 0)]


@pytest.mark.parametrize(("labeled", "unlabeled"), [(2, 3), (3, 2), (1, 1)])
def test_the_terms_and_figures_are_re_derived(labeled: int, unlabeled: int) -> None:
    """The algorithm box with NumPy and SciPy, for a registration that says: one voxel along axis 0, two back on 2."""
    batch = boxes(labeled, unlabeled)
    objective = method(semi.Net(3), shift(1.0, 0.0, -2.0), atlas_loss=masked_cross_entropy, min_similarity=0.1)
    batch["labeled"]["label"][:, :, 4] = 2
    terms = objective(batch)

    x, y = (batch["labeled"][name][:, 0].double().numpy() for name in ("image", "label"))
    u = batch["unlabeled"]["image"][:, 0].double().numpy()
    count = max(labeled, unlabeled)
    similarities, before, images, labels, kept = [], [], [], [], []
    for pair in range(count):
        a, b = pair % labeled, pair % unlabeled
        other = u[(pair + 1) % unlabeled]
        recolored = x[a] + ndimage.gaussian_filter(further(other) - x[a], 1.0, mode="nearest", truncate=4.0)
        images.append(further(recolored))
        labels.append(further(y[a]))
        similarities += [slow_similarity(further(x[a]), u[b]), slow_similarity(further(other), x[a])]
        before += [slow_similarity(x[a], u[b]), slow_similarity(other, x[a])]
        kept.append(similarities[-2] > 0.1)
    moved, mask = torch.tensor(np.stack(labels))[:, None].long(), torch.tensor(np.stack(kept))[:, None]
    synthetic = torch.tensor(np.stack(images), dtype=torch.float32)[:, None]
    targets = batch["unlabeled"]["image"][torch.arange(count) % unlabeled]
    cross = nn.functional.cross_entropy(objective.network(targets), moved[:, 0], reduction="none")
    expected = {
        "supervised": semi.cross_entropy(objective.network(batch["labeled"]["image"]), batch["labeled"]["label"]),
        "registration": 1 - np.mean(similarities),  # a shift bends nothing
        "synthetic": semi.cross_entropy(objective.network(synthetic), moved),
        "atlas": cross[mask[:, 0]].mean(),
    }
    assert 0 < mask.sum() < mask.numel()
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {name: torch.as_tensor(term).item() for name, term in expected.items()}, rel=1e-4
    )
    foreground = moved > 0
    figures = {
        "similarity": np.mean(similarities),
        "before": np.mean(before),
        "kept": mask.double().mean().item(),
        "kept_foreground": (mask & foreground).sum().item() / foreground.sum().item(),
    }
    assert {name: figure.item() for name, figure in objective.figures.items()} == pytest.approx(figures, rel=1e-4)


def test_a_bent_displacement_costs_its_bending_energy(batch: semi.Batch) -> None:
    """With d_0 = a i^2 / 2 the second derivative is a, in one of three components."""
    displacement = torch.zeros(1, 3, 6, 6, 6)
    displacement[:, 0] = (0.1 * torch.arange(6.0) ** 2 / 2).view(1, 6, 1, 1)
    light, heavy = (method(semi.Net(), Given(displacement), smoothness=w)(batch)["registration"] for w in (0.0, 6.0))
    assert (heavy - light).item() == pytest.approx(6 * 0.1**2 / 3, rel=1e-3)


def test_a_registered_scan_takes_over_appearance_and_keeps_its_label() -> None:
    """Where u is x moved, x moved is u; what v has more than x everywhere is taken over whole."""
    x, y = (boxes(1, 1)["labeled"][name] for name in ("image", "label"))
    u, truth = (part.roll(-1, 2)[:, :, :-1] for part in (x, y))
    objective, there, still = (
        method(appearance_sigma=1.5),
        shift(1.0, 0.0, 0.0).displacement,
        torch.zeros(1, 3, 6, 6, 6),
    )
    image, label = objective._synthesize(x, y, x + 0.5, there, still)
    assert torch.allclose(image[:, :, :-1], u + 0.5, atol=1e-5)
    assert torch.equal(label[:, :, :-1], truth.long())
    # without a blur all of v is taken over, from where it is registered
    image, _ = method(appearance_sigma=0.0)._synthesize(x, y, u := torch.randn_like(x), still, there)
    assert torch.allclose(image[:, :, :-1], u[:, :, 1:], atol=1e-5)


def test_a_blur_hands_over_brightness_and_no_anatomy() -> None:
    image = torch.randn(1, 1, 12, 12, 12)
    objective = method(appearance_sigma=3.0)
    other = torch.randn(1, 1, 12, 12, 12) + 2.0
    still = torch.zeros(1, 3, 12, 12, 12)
    recolored, _ = objective._synthesize(image, torch.zeros(1, 1, 12, 12, 12), other, still, still)
    change = recolored - image
    assert change.mean().item() == pytest.approx(2.0, abs=0.2)
    assert change.std() < 0.15 * (other - image).std()


def test_a_part_of_a_voxel_goes_to_the_class_with_most_of_it() -> None:
    """An edge moves once more than half a voxel has; between classes 0 and 2 there is no 1."""
    label = torch.zeros(1, 1, 6, 6, 6)
    label[:, :, 3:] = 2
    image = torch.zeros_like(label)
    for part, edge in ((0.4, 3), (0.6, 2)):
        there = shift(part, 0.0, 0.0).displacement
        _, moved = method()._synthesize(image, label, image, there, there)
        assert set(moved.unique().tolist()) == {0, 2}
        assert (moved[0, 0, :, 0, 0] == 2).int().argmax().item() == edge


def test_labelled_and_unlabelled_patches_are_all_paired_both_ways() -> None:
    batch = boxes(2, 3)
    objective = method(registration=shift(0.0, 0.0, 0.0))
    objective(batch)
    x, u = batch["labeled"]["image"], batch["unlabeled"]["image"]
    ((moving, fixed),) = objective.registration.asked
    assert torch.equal(moving, torch.cat([x[[0, 1, 0]], u[[1, 2, 0]]]))
    assert torch.equal(fixed, torch.cat([u, x[[0, 1, 0]]]))


def test_the_registration_learns_and_carries_labels_over() -> None:
    """Two pixels apart: after the registration has learned alone, moved labels cover the unlabelled case's own."""
    noise = np.random.default_rng(0).normal(size=(32, 32))
    x = torch.tensor(ndimage.gaussian_filter(noise, 2.0), dtype=torch.float32)[None, None]
    x = x / x.std()
    label = (x > 0.5).float()
    u, truth = x.roll(2, 2), label.roll(2, 2)
    registration = VoxelMorph(VoxelMorphUNet(2, 2, 8, (8, 8, 8, 8), (), norm="INSTANCE"), 5, spatial_dims=2)
    objective = method(nn.Conv2d(1, 2, 1), registration, window=7, smoothness=0.02, registration_share=1.0)
    batch = {"labeled": {"image": x, "label": label}, "unlabeled": {"image": u}}
    optimizer = torch.optim.Adam(registration.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        objective(batch)["registration"].backward()
        optimizer.step()
    assert objective.figures["similarity"] > objective.figures["before"] + 0.15
    _, there, _ = objective._register(x, u)
    _, moved = objective._synthesize(x, label, u, there, there)

    def dice(one: Tensor, other: Tensor) -> float:
        one, other = one[..., 3:-3, 3:-3] > 0, other[..., 3:-3, 3:-3] > 0
        return (2 * (one & other).sum() / (one.sum() + other.sum())).item()

    assert dice(moved, truth) > max(0.8, dice(label, truth) + 0.1)


def test_shrunk_images_are_registered_and_the_answer_is_in_the_patch_s_voxels() -> None:
    """Cubes of 2 voxels are averaged; one such cube further is two voxels further, and trust is a cube's."""
    batch = boxes(1, 2)
    registration = shift(1.0, 0.0, 0.0, side=3)
    objective = method(semi.Net(), registration, shrink=2, atlas_loss=masked_cross_entropy)
    term, displacement, similarity = objective._register(batch["unlabeled"]["image"][:1], batch["labeled"]["image"])
    ((moving, fixed),) = registration.asked
    for small, image in ((moving, batch["unlabeled"]["image"][:1]), (fixed, batch["labeled"]["image"])):
        means = image.reshape(1, 1, 3, 2, 3, 2, 3, 2).mean((3, 5, 7))
        assert torch.allclose(small, means, atol=1e-6)
    assert torch.allclose(displacement, torch.tensor([2.0, 0.0, 0.0]).view(1, 3, 1, 1, 1).expand(1, 3, 6, 6, 6))
    assert torch.equal(similarity[..., ::2, ::2, ::2].repeat_interleave(2, 2), similarity[..., ::2, ::2])
    assert term.item() == pytest.approx(1 - similarity.mean().item(), rel=1e-5)
    assert set(objective(batch)) == set(TERMS)
    with pytest.raises(UserError, match=r"patch_size must be in multiples of `shrink`, 4 voxels, got \[6, 6, 6\]\."):
        method(shrink=4)(batch)


def test_at_first_the_registration_learns_alone(batch: semi.Batch) -> None:
    network = semi.Net()
    sizes: list[int] = []
    network.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    objective = method(network, registration_share=0.3)
    for progress, size in ((0.0, 2), (0.29, 2), (0.3, 8)):
        objective.progress = progress
        terms = objective(batch)
        assert list(terms) == TERMS  # a table of the steps has its columns from the first row on
        assert sizes.pop() == size
        begun = progress >= 0.3
        assert (terms["synthetic"].item() > 0, terms["atlas"].item() > 0) == (begun, begun)
        assert math.isnan(objective.figures["kept"].item()) != begun
        assert list(objective.figures) == ["similarity", "before", "kept", "kept_foreground"]
        objective.total(terms).backward()
        assert all(parameter.grad.any() for parameter in objective.registration.parameters())


def test_an_untrusted_atlas_label_is_left_out_and_is_no_background(batch: semi.Batch) -> None:
    objective = method(registration=shift(0.0, 0.0, 0.0), min_similarity=1.0)
    terms = objective(batch)
    assert terms["atlas"].item() == 0
    assert objective.figures["kept"].item() == objective.figures["kept_foreground"].item() == 0
    objective.total(terms).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in objective.parameters())
    assert method(registration=shift(0.0, 0.0, 0.0), min_similarity=0.0)(batch)["atlas"].item() > 0


def test_at_weight_zero_the_network_learns_supervised(batch: semi.Batch) -> None:
    network = semi.Net()
    supervised = Supervised(copy.deepcopy(network), semi.cross_entropy)
    objective = method(network, weights={"synthetic": 0.0, "atlas": 0.0})
    objective.total(objective(batch)).backward()
    supervised.total(supervised(batch)).backward()
    for mine, theirs in zip(network.parameters(), supervised.network.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-5)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_without_unlabelled_cases_it_is_supervised(decay: float | None, batch: semi.Batch) -> None:
    semi.check_supervised_without_unlabeled(lambda network: method(network, decay=decay), batch)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_resumes_exactly(decay: float | None, batch: semi.Batch) -> None:
    semi.check_resumes(lambda network: method(network, decay=decay), batch)


def test_overfits(batch: semi.Batch) -> None:
    def supervised(network: nn.Module) -> float:
        return semi.cross_entropy(network(batch["labeled"]["image"]), batch["labeled"]["label"]).item()

    objective = method(semi.Net(sharpness=1))
    helpers.check_overfits(objective, batch, steps=40, learning_rate=3e-2, measure=supervised)


def test_registration_stays_in_float32_under_autocast(batch: semi.Batch) -> None:
    objective = method().eval()
    full, figures = objective(batch), objective.figures
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = objective(batch)
    assert torch.equal(low["registration"], full["registration"])
    assert helpers.same(objective.figures, figures)
    assert all(term.dtype == torch.float32 for term in low.values())


def test_two_dimensions() -> None:
    batch = {stream: {name: part[..., 0] for name, part in entries.items()} for stream, entries in boxes().items()}
    network = nn.Conv2d(1, 2, 3, padding=1)
    objective = method(network, VoxelMorph(VoxelMorphUNet(2, 2, 4, (4, 4), ()), 3, spatial_dims=2))
    assert all(torch.isfinite(term) for term in objective(batch).values())


def test_the_teacher_follows_where_there_is_one() -> None:
    objective = method(decay=0.9)
    for step, decay in ((0, 0.0), (1, 0.5), (500, 0.9)):
        helpers.perturb([objective.network], 0.3)
        old = copy.deepcopy(objective.teacher.state_dict())
        objective.update_teacher(step)
        for name, value in objective.teacher.state_dict().items():
            expected = decay * old[name] + (1 - decay) * objective.network.state_dict()[name]
            assert torch.allclose(value, expected, atol=1e-6), (step, name)
    objective.train()
    assert not any(part.training for part in objective.teacher.modules())
    assert objective.registration.training
    objective.reset_teacher()
    assert helpers.same(objective.teacher.state_dict(), objective.network.state_dict())
    alone = method()
    before = copy.deepcopy(alone.state_dict())
    alone.reset_teacher()
    alone.update_teacher(3)
    assert helpers.same(before, alone.state_dict())


def test_patches_of_two_sizes_cannot_be_registered(batch: semi.Batch) -> None:
    batch["unlabeled"]["image"] = batch["unlabeled"]["image"][..., :4]
    with pytest.raises(UserError, match=r"labelled patches are \(1, 6, 6, 6\), unlabelled ones \(1, 6, 6, 4\)"):
        method()(batch)


def test_patches_that_the_registration_cannot_halve_are_refused() -> None:
    registration = VoxelMorph(VoxelMorphUNet(3, 2, 4, (4, 4, 4, 4), ()), integration_steps=3)
    with pytest.raises(UserError, match=r"refuses patches of \[6, 6, 6\] voxels, 1 of the image's to one .*patch_size"):
        method(registration=registration)(boxes())


class Alone(nn.Module):
    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        return moving


def test_an_answer_that_is_no_displacement_is_refused(batch: semi.Batch) -> None:
    message = r"`registration` must answer with moved images and displacements \(6, 3, 6, 6, 6\), got "
    with pytest.raises(UserError, match=message + r"\(6, 2, 6, 6, 6\)\."):
        method(registration=Given(torch.zeros(1, 2, 6, 6, 6)))(batch)
    with pytest.raises(UserError, match=message + r"Tensor\."):
        method(registration=Alone())(batch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shrink": 0}, r"`shrink` must be at least 1 voxel, got 0\."),
        ({"window": 4}, r"`window` must be an odd number of voxels from 3, got 4\."),
        ({"window": 1}, r"`window` must be an odd number of voxels from 3, got 1\."),
        ({"smoothness": -1.0}, r"`smoothness` must be 0 or more, got -1\.0\."),
        ({"appearance_sigma": -1.0}, r"`appearance_sigma` must be 0 or more voxels, got -1\.0\."),
        ({"min_similarity": 1.1}, r"`min_similarity` must be in \[0, 1\], got 1\.1\."),
        ({"registration_share": 1.2}, r"`registration_share` must be in \[0, 1\], a share of the run, got 1\.2\."),
        ({"decay": 1.0}, r"`decay` must be in \[0, 1\), got 1\.0\."),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(**arguments)
