"""The bundles that come with the package: find them, copy one out, bake a run's values into the copy.

No MONAI and no torch here, so that the command line stays fast.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import write_json

__all__ = ["bundle_metadata", "bundle_names", "bundle_path", "copy_bundle", "mark_trained", "mark_untrained"]

METADATA = "configs/metadata.json"
CONFIGS = tuple(f"configs/{name}.yaml" for name in ("train", "evaluate", "inference", "suggest"))
# as in keys.RunFiles, which imports MONAI
MODEL, SAFE_MODEL, PREPROCESSING = "model.pt", "model.safetensors", "preprocessing.json"
_UNTRAINED = "Untrained: "  # what a description begins with


def bundle_names() -> list[str]:
    """Return the names of the bundles, sorted."""
    return sorted(_found())


def bundle_path(name: str) -> Path:
    """Return a bundle's folder: inside the installed package, or beside the package in a checkout.

    Args:
        name: as :func:`bundle_names` lists it.

    Raises:
        UserError: if there is no such bundle, naming the nearest.
    """
    found = _found()
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1, cutoff=0.0)
        hint = f"the nearest is {near[0]!r}; `monai-ssl bundles` lists all." if near else "this installation has none."
        raise UserError(f"`name` must be the name of a bundle, got {name!r}: {hint}")
    return found[name]


def bundle_metadata(name: str) -> dict[str, Any]:
    """Return the content of a bundle's ``metadata.json``.

    Args:
        name: as :func:`bundle_names` lists it.

    Raises:
        UserError: if there is no such bundle, or the file is no JSON object.
    """
    return _read_object(bundle_path(name) / METADATA)


def copy_bundle(
    name: str,
    target: str | os.PathLike[str],
    run: str | os.PathLike[str] | None = None,
    finish: Callable[[Path], object] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Path:
    """Copy a bundle out, whole or not at all, and return the new folder.

    What a run left in the bundle's own ``models`` is not copied. With ``run``, the copy stands for the trained network:
    the run's model, in both its files, and ``preprocessing.json`` go to ``models``, and each value of
    ``preprocessing.json`` takes the place of the top-level key of its name in the train, evaluate, inference and
    suggest configs, whose other lines and comments stay. The channels in ``metadata.json`` follow ``class_names``.

    Into the ``model`` folder of a MONAI Label app a bundle for pretraining goes without its ``inference.yaml``: the
    server would offer embeddings and reconstructions as a segmentation.

    Args:
        name: as :func:`bundle_names` lists it.
        target: the new folder; it may exist if it is empty.
        run: the folder of a training run of this bundle.
        finish: is called with the copy before it goes to ``target``; where it fails, nothing does.
        values: take their place like those of a run.

    Raises:
        UserError: if there is no such bundle, ``target`` is not empty, ``run`` lacks a file, or a value has no place in
            the bundle or would be code in it.
    """
    source, target = bundle_path(name), Path(target).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: the folder to copy to must be new or empty: choose another one.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
        copy = Path(temporary) / target.name
        # content alone: an installed bundle may be read-only
        ignore = shutil.ignore_patterns("models", "__pycache__", "*.pyc")
        shutil.copytree(source, copy, ignore=ignore, copy_function=shutil.copyfile)
        copy.chmod(0o755)
        (copy / "models").mkdir()
        if (
            name.endswith("_pretraining")
            and target.parent.name == "model"
            and (target.parents[1] / "main.py").is_file()
        ):
            (copy / "configs" / "inference.yaml").unlink()
        if run is not None:
            _bake(copy, Path(run), name)
        if values:
            _set_values(copy, values, "the values", name, "leave it out")
        if finish is not None:
            finish(copy)
        target.mkdir(exist_ok=True)
        for item in copy.iterdir():
            shutil.move(item, target / item.name)
    return target


def mark_untrained(bundle: str | os.PathLike[str]) -> None:
    """Let a bundle's description, which MONAI Label shows, begin with the word that its model is untrained."""
    path = Path(bundle) / METADATA
    metadata = _read_object(path)
    if not metadata["description"].startswith(_UNTRAINED):
        write_json(path, {**metadata, "description": _UNTRAINED + metadata["description"]})


def mark_trained(bundle: str | os.PathLike[str]) -> None:
    """Take :func:`mark_untrained` back, once ``models/model.pt`` is a trained one.

    Args:
        bundle: its folder; one whose description has not the word is not written to.
    """
    from monai_ssl.utils.bundle import is_untrained

    path = Path(bundle) / METADATA
    if not path.is_file():
        return
    metadata = _read_object(path)
    description = str(metadata.get("description", ""))
    if description.startswith(_UNTRAINED) and not is_untrained(Path(bundle) / "models" / MODEL):
        write_json(path, {**metadata, "description": description.removeprefix(_UNTRAINED)})


def _found() -> dict[str, Path]:
    """Return the folders of the bundles by name; the package's own go before a checkout's."""
    package = Path(__file__).resolve().parents[1]
    found: dict[str, Path] = {}
    for root in (package / "bundles", package.parent / "bundles"):
        for metadata in root.glob(f"*/{METADATA}"):
            found.setdefault(metadata.parents[1].name, metadata.parents[1])
    return found


def _bake(bundle: Path, run: Path, name: str) -> None:
    from monai_ssl.utils.config_values import check_components, targets_in

    for file in (MODEL, PREPROCESSING):
        if not (run / file).is_file():
            raise UserError(f"{run}: `run` must be the output_dir of a training run, but it has no {file}.")
    for file in (MODEL, SAFE_MODEL, PREPROCESSING):
        if (run / file).is_file():  # a run of an earlier version has no safetensors
            shutil.copyfile(run / file, bundle / "models" / file)
    values, source = _read_object(run / PREPROCESSING), run / PREPROCESSING
    configs = [
        yaml.safe_load(path.read_text(encoding="utf-8")) for path in map(bundle.joinpath, CONFIGS) if path.is_file()
    ]
    check_components(values, str(source), set(targets_in([config.get(name) for config in configs for name in values])))
    _set_values(bundle, values, source, name, f"give a run of the bundle {name}")


def _set_values(bundle: Path, values: Mapping[str, Any], source: object, name: str, remedy: str) -> None:
    left = set(values)
    for path in (bundle / config for config in CONFIGS):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            here = values.keys() & yaml.safe_load(text).keys()
            path.write_text(_with_values(text, {key: values[key] for key in here}), encoding="utf-8")
            left -= here
    if left:
        raise UserError(f"{source}: no config of {name} has the key `{min(left)}`: {remedy}.")
    if "class_names" in values:
        _set_channels(bundle / METADATA, values["class_names"])


def _with_values(text: str, values: dict[str, Any]) -> str:
    """Replace top-level blocks of a YAML text by other values; every other line stays as it is."""
    expected = {**yaml.safe_load(text), **values}
    lines = text.splitlines()
    for key, value in values.items():
        start, end = _block(lines, key)
        new, comment = _yaml(key, value), _comment(lines[start])
        if comment:
            new = [f"{new[0]}  {comment}"] if len(new) == 1 else [comment, *new]
        lines[start:end] = new
    text = "\n".join(lines) + "\n"
    if yaml.safe_load(text) != expected:
        raise RuntimeError(f"replacing {', '.join(values)} in a config changed something else: a bug of monai_ssl.")
    return text


def _yaml(key: str, value: Any) -> list[str]:
    """Write a key in the house's way: a line for each entry of a dictionary, lists on one line."""
    if isinstance(value, dict) and value:
        head = key if key.isidentifier() else json.dumps(key)
        return [f"{head}:", *(f"  {line}" for item in value.items() for line in _yaml(*item))]
    # not JSON: YAML reads its 1e-05 as text
    flow = yaml.safe_dump({key: value}, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000)
    return flow.strip()[1:-1].splitlines()


def _block(lines: list[str], key: str) -> tuple[int, int]:
    """Return the first and the last line plus one of a top-level key, without the comments before the next key."""
    start = next(i for i, line in enumerate(lines) if re.match(rf"""["']?{re.escape(key)}["']?\s*:(\s|$)""", line))
    end = start + 1
    while end < len(lines) and not re.match(r"[\w\"'.]", lines[end]):
        end += 1
    while end > start + 1 and re.match(r"#|\s*$", lines[end - 1]):
        end -= 1
    return start, end


def _comment(line: str) -> str:
    """Return the comment at the end of a line, or an empty string where it has none that is surely one."""
    for match in re.finditer(r"\s#", line):
        try:
            if yaml.safe_load(line[: match.start()]) == yaml.safe_load(line):
                return line[match.start() :].strip()
        except yaml.YAMLError:
            continue
    return ""


def _set_channels(path: Path, class_names: list[str]) -> None:
    metadata = _read_object(path)
    outputs = metadata.setdefault("network_data_format", {}).setdefault("outputs", {})
    outputs.setdefault("pred", {}).update(
        num_channels=len(class_names), channel_def={str(value): name for value, name in enumerate(class_names)}
    )
    write_json(path, metadata)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold a JSON object.")
    return content
