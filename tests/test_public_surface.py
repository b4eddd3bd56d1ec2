"""What the package offers: every public name exists, is documented, and is not one that MONAI has already."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from monai.transforms import MapTransform, Transform

import monai_ssl

PACKAGE = Path(monai_ssl.__file__).parent
SUBPACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py") if path.parent.name != "bundles")
MONAI = (
    "apps",
    "bundle",
    "data",
    "engines",
    "handlers",
    "inferers",
    "losses",
    "metrics",
    "networks",
    "networks.blocks",
    "networks.layers",
    "networks.nets",
    "optimizers",
    "transforms",
    "utils",
    "visualize",
)


@cache
def taken() -> frozenset[str]:
    """Return the public names of MONAI, modules aside."""
    names: set[str] = set()
    for part in MONAI:
        module = importlib.import_module(f"monai.{part}")
        names |= {n for n, v in vars(module).items() if n[0] != "_" and not isinstance(v, ModuleType)}
    return frozenset(names)


def exported(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names of ``__all__`` with what they stand for."""
    for name in module.__all__:
        if hasattr(module, name):
            yield name, getattr(module, name)


def undocumented(name: str, thing: Any) -> list[str]:
    """List the functions, classes and public methods without a docstring, an inherited one counting."""
    if not (inspect.isroutine(thing) or inspect.isclass(thing)):
        return []
    # A class without a docstring shows its parent's, which describes another class.
    missing = [] if (thing.__doc__ if inspect.isclass(thing) else inspect.getdoc(thing)) else [name]
    if inspect.isclass(thing):
        for attribute, value in vars(thing).items():
            if attribute.startswith("_"):
                continue
            routine = inspect.isroutine(value) or isinstance(value, (property, classmethod, staticmethod))
            if routine and not inspect.getdoc(getattr(thing, attribute)):
                missing.append(f"{name}.{attribute}")
    return missing


def complaints(module: Any, foreign: frozenset[str]) -> list[str]:
    """List what is wrong with a subpackage's public names; one that offers none needs no ``__all__``."""
    if not hasattr(module, "__all__"):
        offered = [
            name
            for name, thing in vars(module).items()
            if not name.startswith("_") and getattr(thing, "__module__", "").startswith("monai_ssl")
        ]
        return [f"no __all__ for {', '.join(offered)}"] if offered else []
    found = [f"{name} is in __all__ and nowhere else" for name in module.__all__ if not hasattr(module, name)]
    found += [f"{name} is listed twice" for name in sorted(set(module.__all__)) if module.__all__.count(name) > 1]
    found += [f"{name} is a name that MONAI has" for name in module.__all__ if name in foreign]
    for name, thing in exported(module):
        found += [f"{bare} has no docstring" for bare in undocumented(name, thing)]
    return found


def alias_complaints(module: Any) -> list[str]:
    """List array transforms without a dictionary twin, and dictionary transforms without their two aliases."""
    found = []
    for name, thing in exported(module):
        if not (inspect.isclass(thing) and issubclass(thing, Transform)) or name.endswith(("D", "Dict")):
            continue
        if not issubclass(thing, MapTransform):
            if not inspect.isclass(getattr(module, f"{name}d", None)):
                found.append(f"{name} has no twin {name}d")
        elif not name.endswith("d"):
            found.append(f"{name} is a dictionary transform, and its name does not end in d")
        else:
            aliases = (f"{name[:-1]}D", f"{name[:-1]}Dict")
            found += [f"{alias} is not {name}" for alias in aliases if getattr(module, alias, None) is not thing]
    return found


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_subpackage(name: str) -> None:
    found = complaints(importlib.import_module(f"monai_ssl.{name}"), taken())
    assert not found, "\n".join(found)


def test_transforms_have_twins_and_aliases() -> None:
    if "transforms" not in SUBPACKAGES:
        pytest.skip("there are no transforms")
    found = alias_complaints(importlib.import_module("monai_ssl.transforms"))
    assert not found, "\n".join(found)


def test_monai_names_are_known() -> None:
    assert {"DiceLoss", "RandFlipd", "UNet", "CacheDataset", "SupervisedTrainer", "StatsHandler"} <= taken()


class Bare:
    def method(self) -> None: ...


class Documented:
    """Something."""

    def method(self) -> None:
        """Something."""


class Inherits(Documented):
    """Something else."""

    def method(self) -> None: ...


class Silent(Documented):
    def other(self) -> None: ...


def bare() -> None: ...


def test_complaints() -> None:
    module = SimpleNamespace(__all__=["Bare", "Inherits", "Silent", "bare", "gone", "UNet", "twice", "twice"])
    module.Bare, module.Inherits, module.Silent, module.bare = Bare, Inherits, Silent, bare
    module.UNet, module.twice = Documented, 1
    assert complaints(module, taken()) == [
        "gone is in __all__ and nowhere else",
        "twice is listed twice",
        "UNet is a name that MONAI has",
        "Bare has no docstring",
        "Bare.method has no docstring",
        "Silent has no docstring",
        "Silent.other has no docstring",
        "bare has no docstring",
    ]
    assert complaints(SimpleNamespace(), taken()) == []
    assert complaints(SimpleNamespace(exported=monai_ssl.__getattr__), taken()) == ["no __all__ for exported"]


class RandThing(Transform):
    """Array form."""


class RandThingd(MapTransform):
    """Dictionary form."""


def test_alias_complaints() -> None:
    good = SimpleNamespace(__all__=["RandThing", "RandThingd", "RandThingD", "RandThingDict", "thing"], thing=bare)
    good.RandThing = RandThing
    good.RandThingd = good.RandThingD = good.RandThingDict = RandThingd
    assert alias_complaints(good) == []
    assert alias_complaints(SimpleNamespace(__all__=["RandThing"], RandThing=RandThing)) == [
        "RandThing has no twin RandThingd"
    ]
    assert alias_complaints(SimpleNamespace(__all__=["Thing"], Thing=RandThingd)) == [
        "Thing is a dictionary transform, and its name does not end in d"
    ]
    assert alias_complaints(SimpleNamespace(__all__=["RandThingd"], RandThingd=RandThingd, RandThingD=RandThing)) == [
        "RandThingD is not RandThingd",
        "RandThingDict is not RandThingd",
    ]
