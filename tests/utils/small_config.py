"""A small config, and what its expressions see while MONAI makes a workflow of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from monai.bundle import create_workflow

CONFIG: dict[str, Any] = {
    "imports": ["$import monai_ssl", "$import monai_ssl.utils.bundle"],
    "bundle_root": ".",
    "dataset_dir": None,
    "output_dir": "models",
    "device": "cpu",
    "debug": False,
    "weights": None,
    "seed": 0,
    "max_steps": 6,
    "half": "$@max_steps // 2",
    "spacing": [1.0, 1.0, "$@half / 3"],
    "names": "$('back', 'front')",
    "modality": "MRI",
    "network_def": {"_target_": "torch.nn.Linear", "in_features": "@max_steps", "out_features": "$len(@names)"},
    "train": {"dataset": {"data": []}, "handlers": [{"rate": 1}], "crop": [{"size": "@half"}]},
    "initialize": ["$monai_ssl.utils.bundle.prepare(debug=True, weights=@weights)"],
    "plain": "$monai_ssl.utils.bundle.plain_values('spacing', 'names', 'network_def', 'modality')",
    "print": "$monai_ssl.utils.bundle.fingerprint([{'image': '/a/b/c.nii'}], [], @plain)",
    "given": "$monai_ssl.utils.bundle.overrides()",
    "run": [],
}


def workflow(config: Path | list[str], **overrides: Any) -> Any:
    files = config if isinstance(config, list) else str(config)
    return create_workflow(config_file=files, workflow_type="train", logging_file=False, **overrides)


def values(config: Path, name: str, **overrides: Any) -> Any:
    """What an expression of the config sees while ``create_workflow`` runs."""
    content = yaml.safe_load(config.read_text())
    content["seen"] = []
    content["initialize"] += [f"$@seen.append(@{name})"]
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    return workflow(config, **overrides).parser.get_parsed_content("seen")[0]
