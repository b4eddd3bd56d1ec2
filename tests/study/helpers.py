"""Studies whose trainings are scripts of a tenth of a second, with a bundle's files, switches and locks."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml

from monai_ssl.metrics.free_response import FALSE_POSITIVE_RATES, sensitivities_of
from monai_ssl.study import process, steps
from monai_ssl.study.conduct import run_study
from monai_ssl.study.plan import RunSpec, runs
from monai_ssl.study.plan_file import read_plan
from monai_ssl.study.splits import draw_splits, write_splits
from monai_ssl.study.state import Study

STEPS = 4
SCRIPT = """
import fcntl, hashlib, json, os, sys, time
configs, s = json.loads(sys.argv[1]), json.loads(sys.argv[2])
out = s["output_dir"]
os.makedirs(out, exist_ok=True)
lock = open(out + "/.lock", "a")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

def write(name, text):
    with open(f"{out}/.{name}.tmp", "w") as stream:
        stream.write(text)
    os.replace(f"{out}/.{name}.tmp", f"{out}/{name}")

def number(*parts):
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16) / 16**8

print("starts", configs[0])
if s.get("objective#noise") == "broken":
    sys.exit("Error: broken on purpose")
data = json.load(open(s["datalist"]))
if configs[0] == "train.yaml":
    state = {"step": 0, "value": 0.0}
    start = open(s["pretrained"]).read() if s.get("pretrained") else None
    if s.get("resume"):
        state = json.load(open(out + "/resume.pt"))
    elif os.path.exists(out + "/model.pt") and not s.get("overwrite"):
        sys.exit("Error: holds a run already")
    rows = ["step,seconds\\n"]
    if state["step"]:
        rows = open(out + "/steps.csv").read().splitlines(True)[: state["step"] + 1]
    write("steps.csv", "".join(rows))
    for step in range(state["step"] + 1, int(s["max_steps"]) + 1):
        time.sleep(float(s.get("learning_rate", 0.02)))
        seen = [configs, s["seed"], data.get("training"), data["unlabeled"], start]
        state = {"step": step, "value": number(state["value"], *seen)}
        open(out + "/steps.csv", "a").write(f"{step},0.02\\n")
        write("resume.pt", json.dumps(state))
    write("model.pt", str(state["value"]))
elif configs[0] == "suggest.yaml":
    time.sleep(0.1)
    weights, pool = open(s["weights"]).read(), [case["image"] for case in data["unlabeled"]]
    pool.sort(key=lambda image: number(weights, s["strategy"], image))
    write("suggestions.json", json.dumps({"suggested": pool[: int(s["count"])]}))
else:
    weights = open(s["weights"]).read()
    names = [os.path.basename(case["image"]) for case in data[s["part"]]]
    values = [number(weights, case["image"]) for case in data[s["part"]]]
    mean, rows = sum(values) / len(values), [{"mean": {"dice": value}} for value in values]
    if "box" in data[s["part"]][0]:
        found = [[value] * len(case["box"]) for case, value in zip(data[s["part"]], values)]
        alarms = [[number(value, i) for i in range(3)] for value in values]
        parts = [{"boxes": len(f), "hit_scores": f, "false_scores": a} for f, a in zip(found, alarms)]
        rows = [{"classes": {"nodule": part}} for part in parts]
    rows = [{"image": name, **row} for name, row in zip(names, rows)]
    write("metrics.json", json.dumps({"part": s["part"], "mean": {"dice": mean, "cpm": mean}, "cases": rows}))
"""


def fake_command(bundle: Path, configs: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """Stands for ``bundle_command``."""
    texts = json.dumps(list(configs)), json.dumps(dict(settings), default=str)
    return [sys.executable, "-S", "-E", "-c", SCRIPT, *texts]


def write_cases(folder: Path, cases: int = 12, *, patients: bool = False, unlabeled: int = 0) -> Path:
    """A list of tiny scans; with ``patients`` two cases are of one."""
    folder.mkdir(parents=True)
    for number in range(cases + unlabeled):
        voxels = np.random.default_rng(number).random((2, 2, 2), np.float32)
        name = f"c{number:02}" if number < cases else f"u{number - cases}"
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image((voxels > 0.5).astype(np.uint8), np.eye(4)), folder / f"l{number:02}.nii.gz")
    entries: list[dict[str, str]] = [{"image": f"c{i:02}.nii.gz", "label": f"l{i:02}.nii.gz"} for i in range(cases)]
    if patients:
        entries = [{**entry, "patient": f"p{i // 2}"} for i, entry in enumerate(entries)]
    extra = [{"image": f"u{i}.nii.gz", **({"patient": f"u{i}"} if patients else {})} for i in range(unlabeled)]
    (folder / "dataset.json").write_text(json.dumps({"training": entries, "unlabeled": extra}))
    return folder


def write_box_cases(folder: Path, cases: int = 12) -> Path:
    """A list of empty files with boxes; every fourth case is healthy, which its empty ``box`` alone says."""
    folder.mkdir(parents=True)
    sick = [{"box": [[10.0, 20.0, 30.0, 5.0, 5.0, 5.0]], "label": [0]}, {"box": []}]
    entries = [{"image": f"c{i:02}.nii.gz", **sick[i % 4 == 3]} for i in range(cases)]
    content = {"training": entries, "labels": {"0": "nodule"}, "box_mode": "cccwhd"}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def write_plan(folder: Path, **changes: Any) -> Path:
    """A plan of eight runs on the list in ``folder / "data"``, which is made where it is not there."""
    if not (folder / "data").exists():
        write_cases(folder / "data")
    content = {
        "bundle": "semi_segmentation",
        "data": "data",
        "budgets": [2, 4],
        "methods": ["supervised", "mean_teacher"],
        "seeds": 2,
        "steps": STEPS,
        "test": 3,
        "primary": {"method": "mean_teacher", "baseline": "supervised", "budget": 2},
        **changes,
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in content.items() if value is not None}))
    return path


def write_bundles(folder: Path) -> None:
    """A bundle ``mine`` that starts from pretrained weights, and a bundle ``first`` that pretrains."""
    evaluate, train = {"device": "cpu"}, {"device": "cpu", "learning_rate": 0.02, "epoch_length": 1}
    mine = {
        **train,
        "objective": {},
        "pretrained": None,
        "transfer": "fine_tune",
        "checkpoint": "last",
        "unlabeled_batch_size": 0,
    }
    contents = {
        **{"mine/train": mine, "mine/evaluate": evaluate, "mine/methods/supervised": {}, "mine/suggest": evaluate},
        **{"mine/methods/mean_teacher": {"unlabeled_batch_size": 2}, "first/train": {**train, "ratio": 0.5}},
        **{"first/methods/inpainting": {}, "first/methods/rotation": {}},
    }
    for name, content in contents.items():
        bundle, config = name.split("/", 1)
        path = folder / bundle / "configs" / f"{config}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))


def write_detection_plan(folder: Path, **changes: Any) -> Path:
    """A plan of a bundle ``mine_detection`` on a list of boxes."""
    shared = {"device": "cpu", "iou_threshold": 0.1, "coordinates": "RAS"}
    contents = {"train": {**shared, "checkpoint": "last", "unlabeled_batch_size": 0}, "evaluate": shared}
    contents |= {"methods/supervised": {}, "methods/mean_teacher": {"unlabeled_batch_size": 2}}
    for name, content in contents.items():
        path = folder / "mine_detection" / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    if not (folder / "data").exists():
        write_box_cases(folder / "data")
    return write_plan(folder, **{"bundle": "mine_detection", "test": 6, **changes})


def write_pretraining_plan(
    folder: Path, *more: Any, pretraining: Mapping[str, Any] | None = None, **changes: Any
) -> Path:
    """A plan of the bundles above, whose method ``pretrained`` starts from a pretraining; ``more`` methods."""
    if not (folder / "mine").exists():
        write_bundles(folder)
    first = {"bundle": "first", "method": "inpainting", "steps": STEPS + 2, **(pretraining or {})}
    method = {"label": "pretrained", "method": "supervised", "pretraining": first}
    primary = {"method": "pretrained", "baseline": "supervised", "budget": 2}
    return write_plan(
        folder, **{"bundle": "mine", "methods": ["supervised", method, *more], "primary": primary, **changes}
    )


def write_rounds_plan(folder: Path, *more: Any, **changes: Any) -> Path:
    """A plan of the bundles above with three rounds, in which ``unsure`` chooses its cases; ``more`` methods."""
    if not (folder / "mine").exists():
        write_bundles(folder)
    unsure = {"label": "unsure", "method": "mean_teacher", "acquisition": "uncertainty"}
    methods = ["supervised", {"label": "random", "method": "mean_teacher"}, unsure, *more]
    primary = {"method": "unsure", "baseline": "random", "budget": 4}
    given = {"bundle": "mine", "budgets": [2, 4, 6], "seeds": 1, "methods": methods, "primary": primary}
    return write_plan(folder, **{**given, **changes})


def open_study(path: Path, output: Path) -> tuple[Study, list[RunSpec]]:
    """A study with its lists written, and its runs."""
    plan = read_plan(path)
    study = Study(plan, output, draw_splits(plan))
    output.mkdir(parents=True, exist_ok=True)
    write_splits(study.splits, output)
    return study, runs(plan)


def run_with_fakes(plan: str, output: str, jobs: int) -> None:
    """Target of a process."""
    process.bundle_command = fake_command  # type: ignore[assignment]
    steps.has_teacher = lambda checkpoint: False  # what the fakes leave is no checkpoint
    run_study(plan, output, jobs=jobs)


def write_figures(study: Study, spec: RunSpec, dice: float | None, part: str = "test", seconds: float = 1.0) -> None:
    """What a finished run leaves, every case with the same figure."""
    study.begin(spec)
    step = study.next_step(spec)
    if step is not None and step.name == "train":
        study.end(spec, step, seconds)
    (study.folder(spec) / "steps.csv").write_text(
        "step,seconds\n" + "".join(f"{i + 1},{seconds}\n" for i in range(STEPS))
    )
    names = [Path(case["image"]).name for case in study.splits[Path("splits/held_out.json")][part]]
    cases = [{"image": name, "mean": {"dice": dice}} for name in names]
    study.metrics(spec, part).parent.mkdir(exist_ok=True)
    study.metrics(spec, part).write_text(json.dumps({"part": part, "mean": {"dice": dice}, "cases": cases}))


def write_detections(study: Study, spec: RunSpec, seed: int, sick: int = 4, part: str = "test") -> None:
    """What a finished run of a detector leaves: the first ``sick`` cases have a box, by chance found or not."""
    write_figures(study, spec, None, part)
    path, generator = study.metrics(spec, part), np.random.default_rng(seed)
    metrics = json.loads(path.read_text())
    for number, case in enumerate(metrics["cases"]):
        boxes = int(number < sick)
        scores = generator.random(boxes * int(generator.random() < 0.7)), generator.random(generator.poisson(3))
        found, alarms = (values.tolist() for values in scores)
        del case["mean"]
        case["classes"] = {"nodule": {"boxes": boxes, "hit_scores": found, "false_scores": alarms}}
    rates = {"cpm": FALSE_POSITIVE_RATES, "sensitivity_1": (1.0,)}
    metrics["mean"] = {name: sensitivities_of(metrics["cases"], rates=own).mean() for name, own in rates.items()}
    path.write_text(json.dumps(metrics))
