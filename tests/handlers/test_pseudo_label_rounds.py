from __future__ import annotations

import csv
import errno
import logging
import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.transforms import (
    Compose,
    EnsureTyped,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    RandAffined,
    RandSpatialCropd,
    SelectItemsd,
    Spacingd,
)
from torch import Tensor, nn

from monai_ssl.data.scans import ScanDataset
from monai_ssl.data.two_stream import TwoStreamLoader
from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.handlers import pseudo_label_rounds as module
from monai_ssl.handlers.checkpoint import CheckpointWriter, Resume
from monai_ssl.handlers.pseudo_label_rounds import PseudoLabelRounds, round_starts
from monai_ssl.handlers.teacher import TeacherUpdate
from monai_ssl.objectives.pseudo_label import PseudoLabel
from monai_ssl.utils import files
from monai_ssl.utils.errors import UserError
from tests.helpers import same

CLASSES = ["background", "head", "tail"]
# 2 epochs of 2 steps without labels, then a round of 1 epoch and one of 2
STEPS, EPOCH, STARTS = 10, 2, [4, 6]


def write_scan(path: Path, array: Any, affine: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(array, np.float32), np.eye(4) if affine is None else affine), path)
    return path


def noise(path: Path, shape: Sequence[int], affine: Any = None, seed: int = 0) -> Path:
    return write_scan(path, np.random.default_rng(seed).normal(size=shape), affine)


BOTH: dict[str, Any] = {"keys": ["image", "label"], "allow_missing_keys": True}


def loading(spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> list[Any]:
    return [
        LoadImaged(ensure_channel_first=True, reader="NibabelReader", **BOTH),
        Orientationd(axcodes="RAS", labels=None, **BOTH),
        Spacingd(pixdim=spacing, mode=["bilinear", "nearest"], **BOTH),
        NormalizeIntensityd(keys="image", subtrahend=0.0, divisor=1.0),
    ]


def patches(spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> Compose:
    return Compose(
        [
            *loading(spacing),
            RandSpatialCropd(roi_size=(4, 4, 4), random_size=False, **BOTH),
            RandAffined(prob=0.7, rotate_range=0.5, mode=["bilinear", "nearest"], padding_mode="border", **BOTH),
            EnsureTyped(track_meta=False, **BOTH),
            SelectItemsd(**BOTH),
        ]
    )


def rounds(
    folder: Path,
    images: Sequence[Path],
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    cache_rate: float = 0.0,
    **arguments: Any,
) -> PseudoLabelRounds:
    cases = [{"image": str(image)} for image in images]
    settings: dict[str, Any] = {
        "dataset": ScanDataset(cases, patches(spacing), cache_rate=cache_rate),
        "scans": ScanDataset(cases, Compose(loading(spacing))),
        "inferer": SimpleInferer(),
        "folder": folder / "pseudo_labels",
        "starts": STARTS,
        "class_names": CLASSES,
    }
    return PseudoLabelRounds(**(settings | arguments))


class Loss(nn.Module):
    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, label[:, 0].long())


def trainer(handler: PseudoLabelRounds, *before: Any, after: Sequence[Any] = (), **settings: Any) -> SSLTrainer:
    """Random weights and little dropout; the same at every call."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 6, 3, padding=1), nn.InstanceNorm3d(6), nn.Dropout(0.3), nn.Conv3d(6, 3, 1))
    objective = PseudoLabel(network, Loss(), **{"threshold": 0.4, "decay": 0.9, **settings})
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=0.05)
    labeled: Any = [
        {
            "image": torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(n)),
            "label": torch.full((1, 4, 4, 4), n % 3),
        }
        for n in range(4)
    ]
    loader = TwoStreamLoader(Plain(labeled), handler.dataset, seed=3)  # type: ignore[arg-type]
    handlers = [*before, TeacherUpdate(), handler, *after]
    return SSLTrainer("cpu", STEPS // EPOCH, loader, objective, optimizer, epoch_length=EPOCH, handlers=handlers)


class Plain(list[Any]):
    """A data set in memory."""

    @property
    def data(self) -> Plain:
        return self


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    shapes = [(6, 7, 8), (8, 6, 7), (7, 7, 7)]
    return [noise(tmp_path / "scans" / f"scan_{n}.nii.gz", shape, seed=n) for n, shape in enumerate(shapes)]


# When rounds begin


@pytest.mark.parametrize("epoch_length", [1, 50])
@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5, 7, 12, 30, 31])
def test_rounds_begin_at_the_epochs_nearest_to_equal_parts(epochs: int, epoch_length: int) -> None:
    for count in range(min(epochs, 9)):
        starts = round_starts(epochs * epoch_length, epoch_length, count)
        bounds = [0, *starts, epochs * epoch_length]
        assert len(starts) == count
        assert all(after > before for before, after in pairwise(bounds))
        for number, start in enumerate(starts, 1):
            exact = number * epochs / (count + 1)
            assert start % epoch_length == 0
            assert abs(start / epoch_length - exact) == min(abs(epoch - exact) for epoch in range(epochs + 1))


def test_more_rounds_than_epochs_are_refused() -> None:
    message = (
        r"3 rounds of pseudo-labels, after one without, need 4 epochs or more; 100 steps with epoch_length 50 are 2\. "
        r"Take more steps, a smaller epoch_length or fewer rounds\."
    )
    with pytest.raises(UserError, match=message):
        round_starts(100, 50, 3)
    with pytest.raises(UserError, match=r"rounds must be 0 or more, got -1\."):
        round_starts(100, 50, -1)


# What is written


class Threshold(nn.Module):
    """Class 1 where the voxel is above 0, class 2 below, surer the farther from it."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, image: Tensor) -> Tensor:
        logit = self.gain * image
        return torch.cat([torch.full_like(image, -9.0), logit, -logit], 1)


def labelled_once(folder: Path, images: Sequence[Path], threshold: float = 0.9, **arguments: Any) -> PseudoLabelRounds:
    """The labels of the first round by :class:`Threshold`, without training."""
    handler = rounds(folder, images, **arguments)
    objective = PseudoLabel(Threshold(), Loss(), threshold=threshold)
    with torch.no_grad():
        handler._label(objective, 1, torch.device("cpu"))
    return handler


def oblique() -> Any:
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(np.array([[0.9, -0.3, 0.1], [0.3, 0.9, 0.2], [-0.1, -0.2, 0.95]]))[0]
    turn[:3, 3] = (-93.25, 41.5, 1207.75)
    return turn @ np.diag([0.8, 1.3, 3.1, 1.0])


GEOMETRIES = {
    "ras": np.eye(4),
    "psl": np.array([[0.0, 0, -1, 7], [1, 0, 0, -3], [0, 1, 0, 2.5], [0, 0, 0, 1]]),
    "thick": np.diag([0.7, 0.9, 3.3, 1.0]),
    "oblique": oblique(),
}


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("codes", ["sform", "qform", "both", "neither"])
def test_a_label_has_the_scans_shape_and_place_exactly(name: str, codes: str, tmp_path: Path) -> None:
    path = noise(tmp_path / "scan.nii", (5, 9, 4), GEOMETRIES[name])
    scan = nib.load(path)
    scan.header["sform_code"], scan.header["qform_code"] = {
        "sform": (1, 0),
        "qform": (0, 2),
        "both": (1, 3),
        "neither": (0, 0),
    }[codes]
    path.write_bytes(scan.to_bytes())
    labelled_once(tmp_path, [path])
    scan, label = nib.load(path), nib.load(tmp_path / "pseudo_labels" / "round_1" / "scan.nii.gz")
    assert label.shape == scan.shape
    assert label.get_data_dtype() == np.uint8
    assert np.array_equal(label.affine, scan.affine)
    for form in ("get_sform", "get_qform"):
        (mine, code), (theirs, other) = (getattr(image, form)(coded=True) for image in (label, scan))
        assert code == other
        assert mine is theirs is None or np.array_equal(mine, theirs)
    assert np.array_equal(label.header.get_zooms(), scan.header.get_zooms())


@pytest.mark.parametrize("name", ["ras", "psl"])
def test_where_the_grid_is_the_scans_own_every_voxel_is_re_derived(name: str, tmp_path: Path) -> None:
    path = noise(tmp_path / "scan.nii.gz", (5, 9, 4), GEOMETRIES[name])
    labelled_once(tmp_path, [path], threshold=0.9, inferer=SlidingWindowInferer(roi_size=(4, 4, 4), overlap=0.5))
    image = nib.load(path).get_fdata()
    logits = np.stack([np.full(image.shape, -9.0), 4 * image, -4 * image])
    p = np.exp(logits) / np.exp(logits).sum(0)
    expected = np.where(p.max(0) > 0.9, p.argmax(0), 255)
    assert set(np.unique(expected)) == {1, 2, 255}
    label = nib.load(tmp_path / "pseudo_labels" / "round_1" / "scan.nii.gz")
    assert np.array_equal(np.asanyarray(label.dataobj), expected)


def test_probabilities_are_interpolated_and_not_labels(tmp_path: Path) -> None:
    """Along a line, of which the network sees every fourth voxel; what it answers there is known."""
    line = np.linspace(-1.0, 1.0, 33)
    path = write_scan(
        tmp_path / "scan.nii.gz", line[:, None, None] * np.ones((1, 4, 4)), np.diag([0.25, 1.0, 1.0, 1.0])
    )
    labelled_once(tmp_path, [path], threshold=0.8)
    logits = np.stack([np.full(9, -9.0), 4 * line[::4], -4 * line[::4]])
    p = np.exp(logits) / np.exp(logits).sum(0)
    between = np.stack([np.interp(np.arange(33) / 4, np.arange(9), q) for q in p])
    expected = np.where(between.max(0) > 0.8, between.argmax(0), 255)
    found = np.asanyarray(nib.load(tmp_path / "pseudo_labels" / "round_1" / "scan.nii.gz").dataobj)
    assert np.array_equal(found, np.broadcast_to(expected[:, None, None], found.shape))
    nearest = p[:, np.rint(np.arange(33) / 4).astype(int)]
    assert not np.array_equal(expected, np.where(nearest.max(0) > 0.8, nearest.argmax(0), 255))


def test_the_table_counts_what_the_files_hold(scans: list[Path], tmp_path: Path) -> None:
    labelled_once(tmp_path, scans, threshold=0.95)
    folder = tmp_path / "pseudo_labels" / "round_1"
    rows = table(folder / "kept.csv")
    assert [(row["case"], row["class"]) for row in rows] == [
        (case, name) for case in ("scan_0", "scan_1", "scan_2", "(all cases)") for name in CLASSES
    ]
    sums = np.zeros((3, 2), int)
    for case, path in enumerate(scans):
        image = nib.load(path).get_fdata()
        label = np.asanyarray(nib.load(folder / path.name).dataobj)
        assert set(np.unique(label)) == {1, 2, 255}
        expected = [[0, 0]] + [
            [int((sign * image > 0).sum()), int((label == k).sum())] for k, sign in ((1, 1), (2, -1))
        ]
        found = [[int(row["predicted"]), int(row["kept"])] for row in rows[3 * case : 3 * case + 3]]
        assert found == expected
        sums += np.array(found)
    assert [[int(row["predicted"]), int(row["kept"])] for row in rows[9:]] == sums.tolist()
    for row in rows:
        predicted, kept = int(row["predicted"]), int(row["kept"])
        assert row["share"] == (str(kept / predicted) if predicted else "")


def test_equal_names_stay_apart_and_a_scan_listed_twice_is_one(tmp_path: Path) -> None:
    names = ["a/scan.nii.gz", "b/scan.nii.gz", "b/scan.nii", "b/c/other.nii"]
    images = [noise(tmp_path / "scans" / name, (4, 4, 4), seed=n) for n, name in enumerate(names)]
    handler = labelled_once(tmp_path, [*images, images[0]], threshold=0.0)
    folder = tmp_path / "pseudo_labels" / "round_1"
    written = ["a/scan.nii.gz", "b/c/other.nii.gz", "b/scan.nii.gz.nii.gz", "b/scan.nii.nii.gz"]
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.nii.gz")) == written
    handler._use(1)
    for case in handler.dataset.data:
        image, label = (np.asanyarray(nib.load(case[key]).dataobj) for key in ("image", "label"))
        assert np.array_equal(label, np.where(image > 0, 1, 2)), case
    assert len(handler.dataset.data) == 5
    rows = table(folder / "kept.csv")
    assert [row["case"] for row in rows[::3]] == ["a/scan", "b/scan.nii.gz", "b/scan.nii", "b/c/other", "(all cases)"]


def test_classes_of_which_nothing_is_kept_are_told(
    scans: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        labelled_once(tmp_path, scans)
    info, warning = (record.getMessage() for record in caplog.records if "pseudo_label_rounds" in record.name)
    rows = table(tmp_path / "pseudo_labels" / "round_1" / "kept.csv")[9:]
    share = sum(int(row["kept"]) for row in rows) / sum(int(row["predicted"]) for row in rows)
    assert info == f"round 1 of 2: 3 unlabelled scans labelled, {100 * share:.1f}% of their voxels kept"
    assert warning.startswith("round 1: no voxel of background is kept in any unlabelled scan.")


# How the run goes on


class Record:
    """What the steps saw, and a stop before one of them."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.labels: dict[int, Tensor | None] = {}
        self.losses: dict[int, Any] = {}

    def attach(self, engine: Any) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self._see)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._log)

    def _see(self, engine: Any) -> None:
        if engine.state.iteration == self.stop:
            raise KeyboardInterrupt
        self.labels[engine.state.iteration] = engine.state.batch["unlabeled"].get("label")

    def _log(self, engine: Any) -> None:
        self.losses[engine.state.iteration] = engine.state.output


def run(
    folder: Path, scans: Sequence[Path], resume: bool = False, stop: int | None = None, **settings: Any
) -> tuple[Any, Record]:
    record = Record(stop)
    engine = trainer(
        rounds(folder, scans, **settings),
        Resume(folder / "resume.pt", {}, enabled=resume),
        after=[CheckpointWriter(folder / "resume.pt", {}, interval=1), record],
    )
    engine.run()
    return engine, record


def test_from_its_round_on_a_patch_carries_its_label(scans: list[Path], tmp_path: Path) -> None:
    seen: list[Any] = []

    class Spy(PseudoLabelRounds):
        def _predict(self, objective: Any, image: Any, device: torch.device) -> tuple[Tensor, Tensor]:
            modes = {module.training for module in objective.modules()}
            seen.append((objective.teacher(image[None]).clone(), modes, torch.is_grad_enabled()))
            return super()._predict(objective, image, device)

    handler = rounds(tmp_path, scans)
    handler.__class__ = Spy
    record = Record()
    engine = trainer(handler, after=[record])
    engine.run()
    assert [label is not None for label in record.labels.values()] == [False] * 4 + [True] * 6
    assert [(modes, grad) for _, modes, grad in seen] == [({False}, False)] * 6
    values = {int(value) for label in record.labels.values() if label is not None for value in label.unique()}
    assert values <= {0, 1, 2, 255}
    assert 255 in values
    assert len(values) > 2
    terms = [float(output["terms"]["pseudo"]) for output in record.losses.values()]
    assert terms[:4] == [0.0] * 4
    assert all(terms[4:])
    # the moving average that a round began with made its labels
    for number, path in ((1, scans[0]), (2, scans[2])):
        logits = seen[3 * (number - 1) + (0 if number == 1 else 2)][0]
        confidence, label = logits.as_subclass(Tensor).softmax(1)[0].max(0)
        found = np.asanyarray(nib.load(tmp_path / "pseudo_labels" / f"round_{number}" / path.name).dataobj)
        assert np.array_equal(found, torch.where(confidence > 0.4, label, 255).numpy())
    assert not same(seen[0][0], seen[3][0])


def test_random_state_and_modes_are_left_as_they_are(scans: list[Path], tmp_path: Path) -> None:
    handler = rounds(tmp_path, scans, inferer=lambda image, network: network(image) + torch.rand(()))
    engine = trainer(handler)
    engine.objective.train()
    engine.objective.network[1].eval()
    modes = [module.training for module in engine.objective.modules()]
    engine.state.iteration = 4
    engine.data_loader.start_at(0)
    state = torch.get_rng_state()
    handler._begin_if_due(engine)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in engine.objective.modules()] == modes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Any, Record]:
    """A run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    scans = [noise(folder / "scans" / f"scan_{n}.nii.gz", (6, 7, 8), seed=n) for n in range(3)]
    engine, record = run(folder, scans)
    return scans, engine, record


# in round 0; where a round begins, before and after its labels were made; inside a round; in the middle of an epoch
@pytest.mark.parametrize("stops", [(4,), (5,), (6,), (7,), (8,), (9, 10), (2, 5, 6, 7, 8)])
def test_a_resumed_run_ends_like_one_that_was_not_interrupted(
    stops: tuple[int, ...], whole: Any, tmp_path: Path
) -> None:
    scans, expected, record = whole
    labels: dict[int, Any] = {}
    losses: dict[int, Any] = {}
    for number, stop in enumerate((*stops, None)):
        try:
            _, part = run(tmp_path, scans, number > 0, stop, cache_rate=float(number % 2))
        except KeyboardInterrupt:
            continue
        labels, losses = part.labels, part.losses
    first = min(losses)
    assert first == stops[-1]
    assert same(losses, {step: output for step, output in record.losses.items() if step >= first})
    assert same(labels, {step: label for step, label in record.labels.items() if step >= first})
    state = torch.load(tmp_path / "resume.pt", weights_only=True)
    assert same(dict(state["objective"]), dict(expected.objective.state_dict()))
    original = scans[0].parents[1] / "pseudo_labels"
    written = sorted(path.relative_to(original) for path in original.rglob("*.*"))
    assert [path.name for path in written] == 2 * ["kept.csv", "scan_0.nii.gz", "scan_1.nii.gz", "scan_2.nii.gz"]
    for path in written:
        assert (tmp_path / "pseudo_labels" / path).read_bytes() == (original / path).read_bytes()


def lose_table(folder: Path) -> None:
    (folder / "kept.csv").unlink()


def lose_label(folder: Path) -> None:
    (folder / "scan_1.nii.gz").unlink()


def lose_all(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("lose", "file", "more"), [(lose_table, "kept.csv", 0), (lose_label, "scan_1.nii.gz", 0), (lose_all, "kept.csv", 3)]
)
def test_within_a_round_its_files_are_needed(
    lose: Callable[[Path], None], file: str, more: int, whole: Any, tmp_path: Path
) -> None:
    scans = whole[0]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, scans, stop=8)
    lose(tmp_path / "pseudo_labels" / "round_2")
    before = (tmp_path / "resume.pt").read_bytes()
    message = rf"round_2/{file}: is not there, and {more} more of the 4 files of round 2, .*--overwrite true\.$"
    with pytest.raises(UserError, match=message):
        run(tmp_path, scans, resume=True)
    assert (tmp_path / "resume.pt").read_bytes() == before


def test_labels_of_other_rounds_are_not_needed(whole: Any, tmp_path: Path) -> None:
    scans, expected, _ = whole
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, scans, stop=7)
    for _ in ("where a round begins", "when all is done"):
        shutil.rmtree(tmp_path / "pseudo_labels")
        engine, _ = run(tmp_path, scans, resume=True)
        assert same(dict(engine.objective.state_dict()), dict(expected.objective.state_dict()))
    assert not (tmp_path / "pseudo_labels").exists()


def test_what_an_earlier_attempt_left_behind_is_replaced(scans: list[Path], tmp_path: Path) -> None:
    stale = tmp_path / "pseudo_labels" / "round_1" / "stale.nii.gz"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"")
    (stale.parent / "kept.csv").write_text("")
    labelled_once(tmp_path, scans)
    assert not stale.exists()
    assert len(table(stale.parent / "kept.csv")) == 12


def test_on_a_full_disk_no_table_is_written_and_the_run_can_go_on(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, expected, _ = whole
    written: list[str] = []

    def fail(stream: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_to_full_disk(path: Any, write: Any) -> None:
        written.append(path.name)
        files.atomic_write(path, fail if len(written) == 2 else write)

    with monkeypatch.context() as patched:
        patched.setattr(module, "atomic_write", write_to_full_disk)
        with pytest.raises(UserError, match=r"round_1/scan_1\.nii\.gz: no space left on the disk"):
            run(tmp_path, scans)
    left = [path.name for path in (tmp_path / "pseudo_labels" / "round_1").iterdir()]
    assert left == ["scan_0.nii.gz"]
    assert torch.load(tmp_path / "resume.pt", weights_only=True)["iteration"] == STARTS[0]
    engine, _ = run(tmp_path, scans, resume=True)
    assert same(dict(engine.objective.state_dict()), dict(expected.objective.state_dict()))


def part_of_two(rank: int, folder: Path, scans: list[Path]) -> None:
    os.environ["LOCAL_RANK"] = str(rank)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    seen: list[Tensor] = []

    def inferer(image: Tensor, network: nn.Module) -> Tensor:
        seen.append(image)
        answer: Tensor = network(image)
        return answer

    handler = labelled_once(folder, scans, inferer=inferer)
    assert len(seen) == (2, 1)[rank]
    # whoever gets here reads what the other one wrote
    handler._check_complete(1)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_write_what_one_does(scans: list[Path], tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    labelled_once(tmp_path / "one", scans)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=part_of_two, args=(rank, tmp_path / "two", scans)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    one, two = (tmp_path / name / "pseudo_labels" / "round_1" for name in ("one", "two"))
    assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in one.iterdir())
    for path in one.iterdir():
        assert (two / path.name).read_bytes() == path.read_bytes()


# What is refused


def test_an_unlabelled_case_with_a_label_of_its_own_is_refused(scans: list[Path], tmp_path: Path) -> None:
    cases = [{"image": str(scans[0])}, {"image": str(scans[1]), "label": "truth.nii.gz"}]
    dataset = ScanDataset(cases, patches())
    with pytest.raises(UserError, match=r"scan_1\.nii\.gz: an unlabelled case may have no label, got truth\.nii\.gz\."):
        rounds(tmp_path, scans[:2], dataset=dataset)


def test_data_sets_of_other_cases_are_refused(scans: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`dataset` and `scans` must hold the same cases in the same order"):
        rounds(tmp_path, scans, dataset=ScanDataset([{"image": str(scans[0])}], patches()))


def test_more_classes_than_a_byte_has_values_are_refused(scans: list[Path], tmp_path: Path) -> None:
    rounds(tmp_path, scans, class_names=[str(n) for n in range(255)])
    with pytest.raises(ValueError, match=r"`class_names` must be 255 or fewer, as 255 is no class, got 256\."):
        rounds(tmp_path, scans, class_names=[str(n) for n in range(256)])


def test_another_number_of_classes_is_refused(scans: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"answers with 3 classes and `class_names` has 2: background, head\."):
        labelled_once(tmp_path, scans, class_names=CLASSES[:2])
