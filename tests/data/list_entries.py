"""Entries of data lists and the names of their files."""

from __future__ import annotations


def case(name, **more):
    return {"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz", **more}


def files(*names, folders=("images", "labels")):
    return [f"{folder}/{name}.nii.gz" for name in names for folder in folders]
