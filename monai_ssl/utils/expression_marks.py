"""What an expression of a config would reach, read from its syntax tree and never evaluated."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Iterator, Mapping

from monai_ssl.utils.dotted_names import INSIDE, doubt_of

__all__ = ["doubts_of_expression", "imported_names"]

_LONGEST = 10_000  # characters; no expression of a config needs a tenth
_REFERENCE = re.compile(r"@\w*(?:(?:::|#)\w*)*")
_STAND_IN = "_reference_"
_OUTSIDE = f"is none of {', '.join(INSIDE)}"
# they only make or compare plain values
_HARMLESS = {
    *("abs", "all", "any", "bool", "complex", "dict", "divmod", "enumerate", "filter", "float", "frozenset", "int"),
    *("isinstance", "len", "list", "map", "max", "min", "next", "iter", "pow", "print", "range", "repr", "reversed"),
    *("round", "set", "slice", "sorted", "str", "sum", "tuple", "type", "zip", "Exception", "ValueError", "KeyError"),
}
_NUMBERS = {"math", "np", "numpy"}
_OF_NUMPY = {
    "ctypeslib",
    "f2py",
    "testing",
    "distutils",
    "load",
    "fromfile",
    "memmap",
    "save",
    "savez",
    "savetxt",
    "lib",
}
# a name that is bound somewhere in an expression counts as the expression's own everywhere in it
_TAKEN = {*dir(builtins), *sys.stdlib_module_names}
# as attributes of anything: ways from an object to the interpreter
_WAYS_OUT = {
    "os",
    "sys",
    "subprocess",
    "builtins",
    "importlib",
    "shutil",
    "ctypes",
    "pickle",
    "socket",
    "posix",
    "runpy",
}


def doubts_of_expression(text: str, names: Mapping[str, str] | None = None) -> list[str]:
    """Say what in an expression is outside of the packages, each once; empty where nothing is.

    Args:
        text: without its ``$``, with MONAI's ``@references``.
        names: what the config's imports bind, such as ``{"dist": "torch.distributed"}``.
    """
    if len(text) > _LONGEST:
        return [f"is longer than {_LONGEST} characters and was not looked at"]
    code = _REFERENCE.sub(_STAND_IN, text.strip())
    try:
        tree = ast.parse(code, mode="exec" if _is_import(code) else "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ["is no Python expression"]
    return list(dict.fromkeys(_doubts(tree, {name: name for name in INSIDE} | dict(names or {}))))


def imported_names(text: str) -> dict[str, str]:
    """What a config's import statement binds, by name; empty for anything else.

    Args:
        text: such as ``import torch.distributed as dist``, without its ``$``.
    """
    if not _is_import(text.strip()) or len(text) > _LONGEST:
        return {}
    try:
        statements = ast.parse(text.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    bound = {}
    for statement in statements:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                root = alias.name.split(".")[0]
                bound[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(statement, ast.ImportFrom):
            bound |= {alias.asname or alias.name: f"{statement.module}.{alias.name}" for alias in statement.names}
    return bound


def _is_import(text: str) -> bool:
    return text.startswith(("import ", "from "))


def _doubts(tree: ast.AST, names: Mapping[str, str]) -> Iterator[str]:
    nodes = list(ast.walk(tree))
    local = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    local |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    for name in sorted(local & (_TAKEN | names.keys())):
        yield f"binds {name} anew, a name that means something else"
    # of a.b.c only the whole chain is looked at
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from _of_import(node)
        elif isinstance(node, (ast.Attribute, ast.Name)) and id(node) not in inner:
            yield from _of_chain(*_chain(node), local, names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "__" in node.value:
            yield "has text with __, by which a format reaches what an object hides"


def _of_import(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    module = getattr(node, "module", None)
    for alias in node.names:
        name = f"{module}.{alias.name}" if module else alias.name
        root = name.split(".")[0]
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"imports {name} of the bundle itself"
        elif root not in (*INSIDE, *_NUMBERS):
            yield f"imports {name}, which {_OUTSIDE}"
        elif root in INSIDE and (doubt := doubt_of(name)):
            yield f"imports {name}, which {doubt}"


def _chain(node: ast.expr) -> tuple[str, list[str]]:
    """The name at the root, empty where it is no name, and the attributes from there."""
    attributes = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return node.id if isinstance(node, ast.Name) else "", attributes[::-1]


def _of_chain(root: str, attributes: list[str], local: set[str], names: Mapping[str, str]) -> Iterator[str]:
    whole = ".".join([root, *attributes])
    hidden = next((part for part in (root, *attributes) if part.startswith("__")), None)
    if hidden is not None:
        yield f"uses {hidden}"
    elif not root or root in local or root == _STAND_IN:
        out = next((part for part in attributes if part in _WAYS_OUT), None)
        if out is not None:
            yield f"uses .{out} of an object"
    elif (module := names.get(root, root)).split(".")[0] in _NUMBERS:
        if any(part in _OF_NUMPY | _WAYS_OUT for part in [*module.split("."), *attributes]):
            yield f"uses {whole}, which reads, writes or leads elsewhere"
    elif root in names and module.split(".")[0] in INSIDE:
        if doubt := doubt_of(".".join([module, *attributes])):
            yield f"uses {whole}, which {doubt}"
    elif root in names or root not in _HARMLESS:
        yield f"uses {whole}, which {_OUTSIDE}"
