"""What a detector would teach itself: python anchor_targets.py STUDY DATA METHOD BUDGET, METHOD as its folder is.

Of every seed's network of METHOD at BUDGET in STUDY, the means over eight flips, before sharpening, on those unlabelled
scans whose boxes the data set has; training never saw these boxes. One patch a scan, around its first box or its
middle. True anchors are those that ATSS matches with a box. Printed, a seed a row:

- ``patches``, and ``true``: true anchors a patch;
- ``target``: mean target of the true anchors;
- ``one view`` and ``views``: average precision of the true anchors among all, by what the detector says of the patch as
  it is, and by the targets, which tells what looking from several sides adds;
- above 0.5, where sharpening turns, and above 0.725, which is 0.8 when sharpened, where boxes become objects: ``kept``,
  the share of the true anchors, ``precision``, the share of true ones among all anchors there, ``missed``, the share of
  objects that no anchor there touches (intersection over union of 0.1, as a hit), and ``alarms``, anchors there that
  touch no object, a patch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data.box_utils import box_iou
from monai.transforms import SpatialCrop, SpatialPad
from sklearn.metrics import average_precision_score
from torch import Tensor

from monai_ssl.networks.anchor_targets import soft_anchor_targets
from monai_ssl.transforms.grid_symmetry import grid_symmetries

THRESHOLDS = (0.5, 0.725)
TOUCH = 0.1  # intersection over union


def main(study: Path, data: Path, method: str, budget: str) -> None:
    """Write the table to the terminal."""
    known = json.loads((study / "splits/held_out.json").read_text())
    command = [Path(sys.executable).with_name("monai-ssl"), "path", "focalmix_detection"]
    bundle = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    names = [f"{name} {threshold}" for threshold in THRESHOLDS for name in ("kept", "precision", "missed", "alarms")]
    heads = ["seed", "patches", "true", "target", "one view", "views", *names]
    _write(heads)
    _write(["---"] * len(heads))
    for run in sorted((study / "runs" / budget / method).glob("seed*")):
        split = json.loads((study / "splits" / budget / f"{run.name}.json").read_text())
        hidden = {case["image"] for case in split["unlabeled"]}
        cases = [case for case in known["training"] if case["image"] in hidden]
        found = _targets(bundle, run, data, {**known, "training": [], "test": cases})
        true, others = found["true"], torch.cat([found["beside"], found["away"]])
        ranked = [average_precision_score(found["is true"], found[name]) for name in ("one view", "views")]
        figures = [len(true) / len(cases), true.mean().item(), *ranked]
        for threshold in THRESHOLDS:
            right, wrong = (true > threshold).sum().item(), (others > threshold).sum().item()
            missed = (found["objects"] <= threshold).float().mean().item()
            alarms = (found["away"] > threshold).sum().item() / len(cases)
            figures += [right / len(true), right / max(1, right + wrong), missed, alarms]
        _write([run.name, str(len(cases)), *(f"{figure:.2f}" for figure in figures)])


def _write(cells: list[str]) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")


@torch.no_grad()
def _targets(bundle: Path, run: Path, data: Path, datalist: dict[str, Any]) -> dict[str, Tensor]:
    """Of all cases together the targets of true anchors, of others that touch an object, of those away from any.

    And ``objects``, for each the highest target of an anchor that touches it; and of all anchors ``one view``, what the
    patch as it is says, ``views``, the target, and ``is true``.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(datalist, file)
        file.flush()
        parser = ConfigParser()
        parser.read_config(bundle / "configs/evaluate.yaml")
        settings = json.loads((run / "preprocessing.json").read_text())
        places = {"weights": str(run / "model.pt"), "datalist": file.name, "dataset_dir": str(data)}
        parser.update({**settings, **places, "device": "$torch.device('cpu')"})
        network, dataset = parser.get_parsed_content("network"), parser.get_parsed_content("dataset")
    size = settings["patch_size"]
    legal = grid_symmetries(size, settings["spacing"], network.anchor_shapes, network.strides)
    flips = [symmetry for symmetry in legal if symmetry.permutation == tuple(range(len(size)))]
    found: dict[str, list[Tensor]] = defaultdict(list)
    for case in dataset:
        image, boxes, labels = _patch(case, size)
        once, soft = (
            soft_anchor_targets(network, image, views, temperature=1.0)[0][0].amax(1) for views in (flips[:1], flips)
        )
        matched = network.match(boxes, labels, size)[0] >= 0
        touches = torch.as_tensor(box_iou(network.anchors(size, soft.device), boxes[0])) >= TOUCH
        near = touches.any(1) & ~matched
        found["true"].append(soft[matched])
        found["beside"].append(soft[near])
        found["away"].append(soft[~near & ~matched])
        found["objects"].append((soft[:, None] * touches).amax(0))
        for name, values in (("one view", once), ("views", soft), ("is true", matched)):
            found[name].append(values)
    return {name: torch.cat(parts) for name, parts in found.items()}


def _patch(case: dict[str, Any], size: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Of a case a patch around its first box, with the boxes whose centre lies within."""
    image = SpatialPad(size, mode="edge")(case["image"]).as_tensor()
    boxes = torch.as_tensor(case["box"]).float().reshape(-1, 6)
    centres = (boxes[:, :3] + boxes[:, 3:]) / 2
    middle = centres[0] if len(boxes) else torch.tensor(image.shape[1:]) / 2
    room = torch.tensor(image.shape[1:]) - torch.tensor(size)
    start = (middle - torch.tensor(size) / 2).round().clamp_min(0).minimum(room).long()
    stop = start + torch.tensor(size)
    inside = ((centres >= start) & (centres < stop)).all(1)
    shifted = (boxes[inside] - start.repeat(2)).maximum(torch.zeros(6)).minimum(torch.tensor(size).repeat(2))
    crop = SpatialCrop(roi_start=start, roi_end=stop)
    return crop(image)[None], shifted[None], torch.zeros(1, len(shifted), dtype=torch.int64)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:5])
