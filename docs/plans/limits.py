"""What keeps a few-label network from the ceiling: python limits.py STUDY DATA METHOD BUDGET, METHOD as its folder is.

STUDY holds finished runs of METHOD at BUDGET and of supervised at all labels. Every seed's network and the ceiling's of
the same seed segment the test cases, the ceiling's the labelled ones, too; predictions stay in the runs' ``predicted``.
Printed are means over the test cases, a seed a row:

- ``dice`` of the network and of the ceiling;
- what each kind of error costs, as the Dice gained where its voxels alone were right, less the same of the ceiling:
  ``classes`` (one foreground class for another), ``rim`` (within one voxel of the foreground's true boundary), ``far``;
- ``volume``, by class: log of the predicted over the true volume;
- ``style``, by class: log of the drawn over the ceiling's volume on the labelled cases: how generous these are;
- ``worst``: the share of the whole gap that the quarter of the cases with the largest gap has.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.metrics import compute_dice
from monai.networks.utils import one_hot
from scipy.ndimage import distance_transform_edt
from torch import as_tensor

Cases = dict[str, np.ndarray]
KINDS = ("classes", "rim", "far")


def main(study: Path, data: Path, method: str, budget: str) -> None:
    """Write the table to the terminal."""
    test = json.loads((study / "splits/held_out.json").read_text())["test"]
    truth = _labels(data, test)
    classes = range(1, 1 + int(max(label.max() for label in truth.values())))
    names = [f"{what} {number}" for what in ("volume", "style") for number in classes]
    heads = ["seed", "dice", "ceiling", *KINDS, *names, "worst"]
    _write(heads)
    _write(["---"] * len(heads))
    for run in sorted((study / "runs" / budget / method).glob("seed*")):
        split = json.loads((study / "splits" / budget / f"{run.name}.json").read_text())
        ceiling = study / "runs/all/supervised" / run.name
        own, best = _predicted(run, data, test), _predicted(ceiling, data, [*test, *split["training"]])
        gap = _dice(best, truth) - _dice(own, truth)
        costs = [np.mean(_repair(own, truth, kind) - _repair(best, truth, kind)) for kind in KINDS]
        volumes = [_volume(own, truth, number) for number in classes]
        styles = [_volume(_labels(data, split["training"]), best, number) for number in classes]
        worst = np.sort(gap)[-len(gap) // 4 :].sum() / gap.sum()
        figures = [np.mean(_dice(own, truth)), np.mean(_dice(best, truth)), *costs, *volumes, *styles, worst]
        _write([run.name, *(f"{figure:.3f}" for figure in figures)])


def _write(cells: list[str]) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")


def _labels(data: Path, cases: list[dict[str, str]]) -> Cases:
    return {Path(case["image"]).name: _read(data / case["label"]) for case in cases}


def _predicted(run: Path, data: Path, cases: list[dict[str, str]]) -> Cases:
    """What the network of a run makes of the cases; each is predicted once."""
    folder = run / "predicted"
    wanted = {Path(case["image"]).name: folder / Path(case["image"]).name.replace(".nii", "_seg.nii") for case in cases}
    missing = [data / case["image"] for case in cases if not wanted[Path(case["image"]).name].exists()]
    if missing:
        command = Path(sys.executable).with_name("monai-ssl")
        bundle = subprocess.run([command, "path", "semi_segmentation"], check=True, capture_output=True, text=True)
        config = f"{bundle.stdout.strip()}/configs/inference.yaml"
        with tempfile.TemporaryDirectory() as images:
            for image in missing:
                (Path(images) / image.name).symlink_to(image.resolve())
            arguments = ["--config_file", config, "--weights", str(run / "model.pt"), "--image", images]
            arguments += ["--bundle_root", bundle.stdout.strip(), "--output_dir", str(folder)]
            subprocess.run([sys.executable, "-m", "monai.bundle", "run", *arguments], check=True, capture_output=True)
    return {name: _read(path) for name, path in wanted.items()}


def _read(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def _dice(predicted: Cases, truth: Cases) -> np.ndarray:
    """Mean over the foreground classes, a case each."""
    return np.array([_case_dice(predicted[name], label) for name, label in truth.items()])


def _case_dice(predicted: np.ndarray, label: np.ndarray) -> float:
    count = int(label.max()) + 1
    masks = [one_hot(as_tensor(array.astype(np.int64))[None, None], count) for array in (predicted, label)]
    return float(compute_dice(*masks, include_background=False).mean())


def _repair(predicted: Cases, truth: Cases, kind: str) -> np.ndarray:
    """Dice gained where the voxels of one kind of error were right, a case each."""
    right = {
        name: np.where(_errors(predicted[name], truth[name], kind), truth[name], predicted[name]) for name in truth
    }
    return _dice(right, truth) - _dice(predicted, truth)


def _errors(predicted: np.ndarray, label: np.ndarray, kind: str) -> np.ndarray:
    inside = label > 0
    swapped = (predicted > 0) & inside
    if kind != "classes":
        near = np.where(inside, distance_transform_edt(inside), distance_transform_edt(~inside)) <= 1.0
        return (predicted != label) & ~swapped & (near if kind == "rim" else ~near)
    return (predicted != label) & swapped


def _volume(ones: Cases, others: Cases, number: int) -> float:
    """Mean over the cases of ``ones`` of the log of a class' volume there over that in ``others``."""
    pairs = [((ones[name] == number).sum(), (others[name] == number).sum()) for name in ones.keys() & others.keys()]
    return float(np.mean([np.log(max(one, 1) / max(other, 1)) for one, other in pairs]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:5])
