"""A docstring may name what has no page here, as long as it exists: another module of the layer, MONAI, torch.

Such a name is shown as code without a link. One that exists nowhere stays a warning, which fails the build.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from pydoc import ErrorDuringImport, locate
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


@cache
def exists(name: str, layer: str) -> bool:
    """Tell whether a name can be imported, from anywhere or from a module of a layer such as ``monai_ssl.data``."""
    try:
        return any(locate(path) is not None for path in (name, *(f"{module}.{name}" for module in modules(layer))))
    except ErrorDuringImport:
        return False


@cache
def modules(layer: str) -> tuple[str, ...]:
    """Dotted names of a layer's modules."""
    if not layer:
        return ()
    folder = getattr(import_module(layer), "__path__", None)
    return (layer, *(f"{layer}.{module.name}" for module in pkgutil.iter_modules(folder))) if folder else (layer,)


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement) -> Any:
    if node.get("refdomain") != "py":
        return None
    module, of_class = node.get("py:module") or "", node.get("py:class")
    names = [
        node["reftarget"],
        *([f"{of_class}.{node['reftarget']}"] if of_class else []),
    ]  # the second may be inherited
    return content if any(exists(name, module) for name in names) else None


def keep_colon(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """A property's first line may have a colon: what stands before it is no type, as napoleon takes it for."""
    taken = [line for line in lines if line.startswith(":type: ")]
    if what == "property" and taken:
        lines.remove(taken[0])
        lines[0] = f"{taken[0].removeprefix(':type: ')}: {lines[0]}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Answer for references that nothing else resolves."""
    app.connect("missing-reference", resolve, priority=900)
    app.connect("autodoc-process-docstring", keep_colon, priority=600)
    return {"version": "1", "parallel_read_safe": True}
