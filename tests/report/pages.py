"""Folders of studies for the report, and pages taken apart."""

from __future__ import annotations

import json
import os
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import UNet

from monai_ssl.data.box_files import write_boxes
from monai_ssl.data.nodule_phantoms import write_nodule_phantoms
from monai_ssl.data.phantoms import PHANTOM_CLASSES, write_phantoms
from monai_ssl.report.predictions import PREDICTIONS
from monai_ssl.report.run_sources import GivenData
from monai_ssl.study.findings import find
from monai_ssl.study.frozen_plan import freeze_plan
from monai_ssl.study.table import write_tables
from monai_ssl.utils.keys import RunFiles
from tests.study.contents import make_content
from tests.study.helpers import open_study, write_figures, write_plan

NETWORK = {"spatial_dims": 3, "in_channels": 1, "out_channels": 4, "channels": [4, 8, 8, 8], "strides": [2, 2, 2]}
NETWORK |= {"num_res_units": 1, "norm": "INSTANCE"}


def study_content(**changes: Any) -> dict[str, Any]:
    """Content of ``study.json``, with its runs and findings."""
    content = make_content(**{"seeds": 2, "cases": 5, **changes})
    runs = [
        {
            "budget": one["budget"],
            "method": one["method"],
            "seed": seed,
            "stage": "grid",
            "labels": labels,
            "unlabeled": 9,
            "steps": content["steps"],
            "mean": mean,
        }
        for one in content["scores"]
        for seed, labels, mean in zip(one["seeds"], one["labels"], one["means"], strict=True)
    ]
    content = {"validation_cases": 0, "runs": runs, **content}
    return {**content, "findings": find(content)}


def write_content(folder: Path, content: dict[str, Any]) -> Path:
    """A study's folder that has nothing but its table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(content))
    return folder


def write_real_study(folder: Path) -> Path:
    """A study on generated scans with two untrained models, whose figures are made up."""
    write_phantoms(folder / "data", cases=6, size=(24, 24, 24))
    plan = write_plan(folder, budgets=[1], seeds=1, test=4, primary={**_PRIMARY, "budget": 1})
    study, specs = open_study(plan, folder / "study")
    freeze_plan(study.plan, study.output)
    for place, spec in enumerate(specs):
        write_figures(study, spec, None)
        path = study.metrics(spec)
        metrics = json.loads(path.read_text())
        for number, case in enumerate(metrics["cases"]):
            case["mean"]["dice"] = 0.5 + 0.1 * number + 0.05 * place
        metrics["mean"]["dice"] = 0.65 + 0.05 * place
        path.write_text(json.dumps(metrics))
        write_model(study.folder(spec), seed=place)
    write_tables(study)
    return study.output


def write_model(folder: Path, seed: int) -> None:
    """What an inference reads of a run: weights that were not trained, and what they go with."""
    torch.manual_seed(seed)
    torch.save(UNet(**NETWORK).state_dict(), folder / RunFiles.MODEL)
    settings = {"modality": "MRI", "orientation": "RAS", "spacing": [1.0, 1.0, 1.0], "intensity_range": [-175.0, 250.0]}
    network = {"_target_": "monai.networks.nets.UNet", **NETWORK}
    settings |= {"patch_size": [16, 16, 16], "in_channels": 1, "class_names": list(PHANTOM_CLASSES)}
    (folder / RunFiles.PREPROCESSING).write_text(json.dumps({**settings, "network_def": network}))


def write_detector(folder: Path) -> tuple[Path, GivenData]:
    """A scored detector with its boxes of four chests: all true ones in the first two, and an alarm in each."""
    listed = write_nodule_phantoms(folder / "data", cases=4, size=(40, 40, 40))
    content = json.loads(listed.read_text())
    content["test"] = content["training"]
    listed.write_text(json.dumps(content))
    run = folder / "run"
    made = run / PREDICTIONS
    made.mkdir(parents=True)
    (run / "model.pt").touch()
    (run / "preprocessing.json").write_text('{"class_names": ["nodule"]}')
    records = []
    for number, entry in enumerate(content["test"]):
        name = Path(entry["image"]).name
        found = entry["box"] if number < 2 else []
        boxes = [*found, [0.0, 0.0, 0.0, 5.0, 5.0, 5.0]]
        scores = [*([0.9] * len(found)), 0.5 + 0.1 * number]
        path = made / name.replace(".nii.gz", "_boxes.json")
        write_boxes(path, name, boxes, [0] * len(boxes), scores, ["nodule"])
        os.utime(path, (2e9, 2e9))
        one = {"boxes": len(entry["box"]), "hit_scores": scores[:-1], "false_scores": scores[-1:]}
        records.append({"image": name, "boxes": len(entry["box"]), "classes": {"nodule": one}})
    figures = {"part": "test", "mean": {"cpm": 0.5}, "iou_threshold": 0.1, "cases": records}
    (run / "metrics.json").write_text(json.dumps(figures))
    return run, GivenData(listed)


_PRIMARY = {"method": "mean_teacher", "baseline": "supervised"}


class Page(HTMLParser):
    """A page's tags with their attributes, the text of each, and what stands in it as text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img", "input", "br", "link"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append((self._open[-1] if self._open else "", data.strip()))

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self, *tags: str) -> list[str]:
        """The texts in elements of some kinds; without any, in all but scripts and styles."""
        return [words for name, words in self.words if (name in tags if tags else name not in ("script", "style"))]


def parse(path: Path) -> Page:
    """Read a page."""
    return Page(path.read_text(encoding="utf-8"))


def from_elsewhere(page: Page) -> list[str]:
    """What a page would load from another file or place."""
    found = []
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
            value = attributes.get(name, "#")
            if not value.startswith(("#", "data:image/png;base64,")):
                found.append(f"{tag} {name}={value[:80]}")
    styles = "".join(words for tag, words in page.words if tag == "style")
    own_script = page.words[-1][1]
    marks = [
        (styles, "@import"),
        (styles, "url(http"),
        (styles, "url(data"),
        (own_script, "fetch("),
        (own_script, "://"),
    ]
    return [*found, *(mark for text, mark in marks if mark in text)]
