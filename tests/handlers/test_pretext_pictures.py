from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.networks.nets import UNet
from monai.transforms import Compose, RandGaussianNoised, RandSpatialCropd
from PIL import Image
from torch import Tensor, nn

from monai_ssl.data.scans import ScanDataset
from monai_ssl.data.two_stream import TwoStreamLoader
from monai_ssl.engines.prepare_batch import PrepareStreams
from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.handlers import pretext_pictures
from monai_ssl.handlers.checkpoint import CheckpointWriter, Resume
from monai_ssl.handlers.pretext_pictures import PretextPictures, draw_pretext
from monai_ssl.networks.heads import ClassificationHead, NetworkOutput, ProjectionHead
from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.objectives.base import Batch, Objective
from monai_ssl.objectives.multitask import Multitask
from monai_ssl.objectives.reconstruction import Reconstruction
from monai_ssl.objectives.transform_class import TransformClass
from monai_ssl.objectives.view_invariance import ContrastiveViews
from monai_ssl.transforms.block_mask import RandBlockMaskd
from monai_ssl.transforms.overlapping_crops import RandOverlappingCropsd
from monai_ssl.transforms.right_angle_rotation import RandRightAngleRotationd
from tests.helpers import same
from tests.objectives.pretext import images

SHAPES = [(4, 4, 4, 4), (8, 4, 4, 4)]
ROTATE = RandRightAngleRotationd(keys="image", family="axes")
MASK = [lambda entries: {**entries, "masked": entries["image"]}, RandBlockMaskd("masked", ratio=0.5, block=4)]
FLAT = [
    RandOverlappingCropsd("image", size=8, views=2),
    lambda entries: {**entries, "image": entries["image"].flatten(0, 1)},
]

# Heads, tasks, transforms of the batch, side of the loaded scan
METHODS: dict[str, Any] = {
    "masked": ({"reconstruction": NetworkOutput(1)}, [Reconstruction()], MASK, 8),
    "autoencoder": (
        {"reconstruction": NetworkOutput(1)},
        [Reconstruction(image="image", mask=None, over="all")],
        [],
        8,
    ),
    "rotation": ({"rotation": ClassificationHead(SHAPES, 10)}, [TransformClass()], [ROTATE], 8),
    "contrast": ({"projection": ProjectionHead(SHAPES, 8)}, [ContrastiveViews()], FLAT[:1], 10),
    "all three": (
        {
            "reconstruction": NetworkOutput(1),
            "rotation": ClassificationHead(SHAPES, 10),
            "projection": ProjectionHead(SHAPES, 8),
        },
        [Reconstruction(over="all"), TransformClass(image="masked"), ContrastiveViews(image="masked")],
        [*FLAT, ROTATE, *MASK],
        10,
    ),
    "two inputs": (
        {"reconstruction": NetworkOutput(1), "rotation": ClassificationHead(SHAPES, 10)},
        [Reconstruction(over="all"), TransformClass(image="image")],
        [ROTATE, *MASK],
        8,
    ),
}


def trainer(*handlers: Any, method: str = "masked", steps: int = 4, batch: int = 4) -> SSLTrainer:
    heads, tasks, transforms, side = METHODS[method]
    torch.manual_seed(0)
    bare = UNet(3, 1, 1, channels=[4, 8], strides=[2], dropout=0.2, norm=("instance", {"affine": True}))
    objective = Multitask(PretextNetwork(bare, heads), tasks)
    for head in heads.values():
        for layer in head.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    scans = nn.functional.interpolate(images(5), size=(12, 12, 12), mode="trilinear")
    steps_of_a_case: list[Any] = [
        lambda case: {"image": scans[int(case["image"][-5])]},
        RandSpatialCropd("image", [side] * 3, random_size=False),
        RandGaussianNoised("image", prob=0.5),
    ]
    cases = [{"image": f"folder/scan_{number}.nii"} for number in range(5)]
    dataset = ScanDataset(cases, Compose(steps_of_a_case), cache_rate=0.5)
    return SSLTrainer(
        "cpu",
        1,
        TwoStreamLoader(dataset, dataset, 0, batch),
        objective,
        torch.optim.AdamW(objective.parameters(), 1e-2),
        epoch_length=steps,
        prepare_batch=PrepareStreams({"unlabeled": transforms}),
        handlers=handlers,
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would have been drawn."""
    calls: list[dict[str, Any]] = []

    def remember(columns: Mapping[str, Tensor], path: Any, title: str, names: Any) -> None:
        calls.append({"columns": dict(columns), "title": title, "names": names})

    monkeypatch.setattr(pretext_pictures, "draw_pretext", remember)
    return calls


@pytest.mark.parametrize(
    ("method", "shapes"),
    [
        ("masked", {"scan": 1, "input": 1, "restored": 1, "|difference|": 1}),
        ("autoencoder", {"scan": 1, "restored": 1, "|difference|": 1}),
        ("rotation", {"scan": 1, "input": 1}),
        ("contrast", {"scan": 1, "input": 2}),
        ("all three", {"scan": 1, "clean": 2, "input": 2, "restored": 2, "|difference|": 2}),
        ("two inputs", {"scan": 1, "clean": 1, "input: masked": 1, "restored": 1, "|difference|": 1}),
    ],
)
def test_columns_are_what_a_method_has(method: str, shapes: dict[str, int], drawn: list[dict[str, Any]]) -> None:
    trainer(PretextPictures("unused.png", 10, cases=3), method=method, steps=1).run()
    columns = drawn[0]["columns"]
    assert {name: tuple(column.shape[:2]) for name, column in columns.items()} == {
        name: (3, views) for name, views in shapes.items()
    }
    for name, column in columns.items():
        side = METHODS[method][3] if name == "scan" else 8
        assert column.shape[2:] == (1, side, side, side)


def test_what_is_restored_is_the_networks_answer(drawn: list[dict[str, Any]]) -> None:
    engine = trainer(PretextPictures("unused.png", 10), method="all three", steps=2)
    engine.run()
    columns = drawn[0]["columns"]
    network = engine.objective.network.eval()
    with torch.no_grad():
        restored = network(columns["input"].flatten(0, 1))["reconstruction"].unflatten(0, (4, 2))
    assert torch.allclose(columns["restored"], restored, atol=1e-5)
    assert torch.allclose(columns["|difference|"], (restored - columns["clean"]).abs(), atol=1e-5)


def test_where_the_loss_counts_the_hidden_voxels_only_these_are_restored(drawn: list[dict[str, Any]]) -> None:
    trainer(PretextPictures("unused.png", 10), steps=2).run()
    scan, seen, restored, difference = (drawn[0]["columns"][n] for n in ("scan", "input", "restored", "|difference|"))
    hidden = scan != seen
    assert 0.4 < float(hidden.float().mean()) <= 0.5
    assert torch.equal(restored[~hidden], scan[~hidden])
    assert torch.equal(difference.isnan(), ~hidden)
    assert torch.equal(difference[hidden], (restored - scan)[hidden].abs())


def test_every_interval_and_at_the_end_the_same_scans_with_the_same_draws(drawn: list[dict[str, Any]]) -> None:
    engine, loaded = trainer(PretextPictures("unused.png", 2), steps=5), []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: loaded.append(e.state.batch["unlabeled"]["image"]))
    engine.run()
    assert [call["title"] for call in drawn] == ["Step 2", "Step 4", "Step 5"]
    first = drawn[0]["columns"]
    assert torch.equal(first["scan"][:, 0], loaded[0])
    for call in drawn[1:]:
        for name in ("scan", "input"):
            assert torch.equal(call["columns"][name], first[name])
        assert not torch.equal(call["columns"]["restored"], first["restored"])
    other = trainer(PretextPictures("unused.png", 5, seed=1), steps=5)
    other.run()
    assert not torch.equal(drawn[-1]["columns"]["input"], first["input"])


def test_the_trainers_loader_stays_where_it_is() -> None:
    engine = trainer()
    loader: Any = engine.data_loader
    loader.start_at(3)
    third = next(iter(loader))
    first = pretext_pictures._first_batch(engine)
    assert not same(first, third)
    assert same(next(iter(loader)), third)
    loader.start_at(0)
    assert same(next(iter(loader)), first)


@pytest.mark.parametrize("method", ["masked", "all three"])
def test_the_run_is_not_disturbed(method: str, drawn: list[dict[str, Any]]) -> None:
    """The trainer seeds every step, so the random state is compared between the steps too."""

    def run(*handlers: Any) -> Any:
        engine, seen = trainer(*handlers, method=method), []

        @engine.on(Events.ITERATION_COMPLETED)
        def remember(engine: Any) -> None:
            modes = [module.training for module in engine.objective.modules()]
            figures = dict(engine.objective.figures)
            seen.append((torch.get_rng_state(), modes, figures, engine.state.output, engine.state.batch["unlabeled"]))

        engine.run()
        return seen, engine.objective.state_dict(), engine.optimizer.state_dict()

    assert same(run(), run(PretextPictures("unused.png", 1)))
    assert len(drawn) == 4


def test_a_resumed_run_draws_the_same_picture(tmp_path: Path) -> None:
    def run(name: str, resume: bool, stop: int | None = None) -> bytes:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        engine = trainer(
            Resume(folder / "resume.pt", {}, enabled=resume),
            PretextPictures(folder / "pretext.png", 3, cases=2),
            CheckpointWriter(folder / "resume.pt", {}, interval=2),
        )

        @engine.on(Events.ITERATION_STARTED)
        def kill(engine: Any) -> None:
            if engine.state.iteration == stop:
                raise KeyboardInterrupt

        engine.run()
        return (folder / "pretext.png").read_bytes()

    with pytest.raises(KeyboardInterrupt):
        run("parts", resume=False, stop=4)
    assert run("parts", resume=True) == run("whole", resume=False)
    assert plt.get_fignums() == []


def test_a_loader_that_cannot_go_back_and_a_method_without_tasks(drawn: list[dict[str, Any]]) -> None:
    class Size(Objective):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            return {"size": self.network(batch["unlabeled"]["image"]).square().mean()}

    batches = [{"unlabeled": {"image": images(2) + step, "case": ["/a/b.nii", "c.nii"]}} for step in range(2)]
    objective = Size(nn.Conv3d(1, 1, 1))
    optimizer = torch.optim.SGD(objective.parameters(), 0.1)
    SSLTrainer("cpu", 1, batches, objective, optimizer, 2, handlers=[PretextPictures("unused.png", 1)]).run()
    assert [list(call["columns"]) for call in drawn] == [["scan"], ["scan"]]
    assert torch.equal(drawn[1]["columns"]["scan"][:, 0], batches[0]["unlabeled"]["image"])  # type: ignore[arg-type]
    assert drawn[0]["names"] == ["b.nii", "c.nii"]


@pytest.mark.parametrize("views", [1, 3, 5, 27])
def test_montage_is_the_middle_slices_upright(views: int) -> None:
    volumes = torch.rand(views, 2, 4, 6, 5)
    canvas = pretext_pictures._montage(volumes)
    across = {1: 1, 3: 3, 5: 3, 27: 6}[views]
    for number in range(views):
        top, left = number // across * 7, number % across * 5
        expected = np.rot90(volumes[number, 0, :, :, 2].numpy(), 1)[:, ::-1]  # up is up, the right is at the left
        assert np.array_equal(canvas[top : top + 6, left : left + 4], expected)
    gaps = int(np.isnan(canvas).sum())
    assert gaps == canvas.size - views * 24
    assert np.array_equal(pretext_pictures._montage(volumes[..., 2]), canvas, equal_nan=True)


def test_the_picture_is_a_png_and_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pretext.png"
    difference = torch.rand(2, 3, 1, 8, 8, 8)
    difference[:, :, :, :4] = torch.nan
    columns = {
        "scan": torch.rand(2, 1, 1, 10, 10, 10),
        "input": torch.zeros(2, 3, 1, 8, 8, 8),
        "|difference|": difference,
    }
    draw_pretext(columns, path, "Step 1", ["a name that is longer than the picture is wide" * 9])
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.size[0] <= 12.0 * 150
    assert plt.get_fignums() == []
    before = path.read_bytes()

    def print_half(self: Any, stream: Any) -> None:
        stream.write(before[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", print_half)
    with pytest.raises(KeyboardInterrupt):
        draw_pretext(columns, path, "Step 2")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["pretext.png"]


def test_the_mean_counts_what_the_loss_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[str] = []
    monkeypatch.setattr(pretext_pictures.Axes, "set_xlabel", lambda self, text, **options: labels.append(text))
    difference = torch.full((1, 1, 1, 4, 4, 4), torch.nan)
    difference[..., 0] = 0.25
    draw_pretext({"scan": torch.rand(1, 1, 1, 4, 4, 4), "|difference|": difference}, tmp_path / "p.png", "", ["a.nii"])
    assert labels == ["a.nii", "mean 0.250"]


def test_of_loaded_files_the_names_are_told_and_no_folder(drawn: list[dict[str, Any]]) -> None:
    trainer(PretextPictures("unused.png", 1), steps=1).run()
    assert len(set(drawn[0]["names"])) == 4
    assert all(name.startswith("scan_") for name in drawn[0]["names"])


@pytest.mark.parametrize("name", ["interval", "cases"])
def test_arguments(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
        PretextPictures("unused.png", **({"interval": 1} | {name: 0}))
