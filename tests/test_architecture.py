"""The rules of the house: who imports whom, which test belongs to which file, what library code may not hold.

Every rule is a function from a folder to a list of complaints, so that small synthetic trees can show it fail.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "monai_ssl"
LAYERS = (
    "utils",
    "transforms",
    "losses",
    "networks",
    "data",
    "metrics",
    "objectives",
    "engines",
    "handlers",
    "study",
    "report",
    "label",
    "cli",
)
NO_SIBLINGS = {"transforms", "losses", "objectives", "handlers"}
Module = tuple[str, ...]


def modules(root: Path) -> dict[Module, Path]:
    """Map dotted names, without the package's own, to files; ``()`` is the package's ``__init__``."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root / PACKAGE).with_suffix("").parts
        found[parts[:-1] if parts[-1] == "__init__" else parts] = path
    return found


def imported(module: Module, path: Path, known: dict[Module, Path]) -> Iterator[tuple[Module, int]]:
    """Yield the modules of the package that a file imports, wherever in the file it does so, with the line."""
    package = module if path.name == "__init__.py" else module[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first, *rest = alias.name.split(".")
                if first == PACKAGE:
                    yield tuple(rest), node.lineno
        elif isinstance(node, ast.ImportFrom):
            parts = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                base = package[: len(package) - node.level + 1] + parts
            elif parts[0] == PACKAGE:
                base = parts[1:]
            else:
                continue
            for alias in node.names:
                name = (*base, alias.name)
                is_module = any(other[: len(name)] == name for other in known)
                yield (name if is_module else base), node.lineno


def wrong_imports(root: Path) -> list[str]:
    """Complain of imports from a folder further down the list, and of siblings where there may be none."""
    complaints = []
    known = modules(root)
    for module, path in known.items():
        if not module or module == ("__main__",):
            continue
        where = path.relative_to(root)
        layer = module[0]
        if layer not in LAYERS:
            complaints.append(f"{where}: {layer} has no place in the order of folders")
            continue
        for target, line in imported(module, path, known):
            if not target:
                continue
            if target[0] not in LAYERS:
                complaints.append(f"{where}:{line}: imports {'.'.join(target)}, which is not in the order of folders")
            elif LAYERS.index(target[0]) > LAYERS.index(layer):
                complaints.append(f"{where}:{line}: {layer} may not import from {target[0]}")
            elif target[0] == layer in NO_SIBLINGS and path.name != "__init__.py" and target[1:] != ("base",):
                complaints.append(f"{where}:{line}: files of {layer} import no sibling but base.py")
    return complaints


def circles(root: Path) -> list[str]:
    """Complain of files that import each other in a circle, the folders' ``__init__`` included."""
    known = modules(root)
    graph = {
        module: sorted({target for target, _ in imported(module, path, known) if target in known and target})
        for module, path in known.items()
        if module
    }
    complaints: list[str] = []
    done: set[Module] = set()

    def visit(module: Module, trail: list[Module]) -> None:
        if module in trail:
            circle = [*trail[trail.index(module) :], module]
            complaints.append(" -> ".join(".".join(part) for part in circle))
        elif module not in done:
            for target in graph[module]:
                visit(target, [*trail, module])
            done.add(module)

    for module in graph:
        visit(module, [])
    return complaints


def missing_tests(root: Path) -> list[str]:
    """Complain of ``monai_ssl/a/x.py`` without ``tests/a/test_x.py``."""
    complaints = []
    for module, path in modules(root).items():
        if path.name.startswith("__"):
            continue
        test = Path("tests", *module[:-1], f"test_{module[-1]}.py")
        if not (root / test).is_file():
            complaints.append(f"{path.relative_to(root)}: {test} is missing")
    return complaints


def unwanted(root: Path) -> list[str]:
    """Complain of print and assert outside the command line, and of a device that is written into the code."""
    complaints = []
    for module, path in modules(root).items():
        where = path.relative_to(root)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert) and module[:1] != ("cli",):
                complaints.append(f"{where}:{node.lineno}: assert is not a message for a user; raise an error")
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name) and node.func.id == "print" and module[:1] != ("cli",):
                    complaints.append(f"{where}:{node.lineno}: print; use the logger")
                if names_cuda(node):
                    complaints.append(f"{where}:{node.lineno}: the device is the caller's choice")
    return complaints


def names_cuda(call: ast.Call) -> bool:
    """Tell ``x.cuda()`` and ``f("cuda")``, ``f(device="cuda:0")`` of the calls that choose a device."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "cuda":
        return True
    given = [keyword.value for keyword in call.keywords if keyword.arg == "device"]
    if name in {"to", "device"}:
        given += call.args
    return any(isinstance(v, ast.Constant) and str(v.value).split(":")[0] == "cuda" for v in given)


def unpickled(root: Path) -> list[str]:
    """Complain of what may run code that a file holds: pickles above all, and what reads them."""
    complaints = []
    for path in modules(root).values():
        content = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(content):
            where = f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}"
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            complaints += [f"{where}: {name}; it unpickles" for name in names if reads_pickles(name)]
            if isinstance(node, ast.Call) and (wrong := unsafe_call(node)):
                complaints.append(f"{where}: {wrong}")
    return complaints


def reads_pickles(name: str) -> bool:
    """Tell a module or function that unpickles, or by whose bare name a call that does would not be seen."""
    modules_of_pickles = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    functions = {"torch.load", "torch.jit.load", "torch.serialization.load", "numpy.load", "pandas.read_pickle"}
    functions |= {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}
    return name.split(".")[0] in modules_of_pickles or name in functions


def unsafe_call(call: ast.Call) -> str:
    """Say what is wrong with a call that reads a file or text; empty where nothing is."""
    name = ast.unparse(call.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in {"torch.load", "torch.serialization.load"} and given.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if given.get("allow_pickle", "False") != "False":
        return f"{name} with allow_pickle"
    if name in {"eval", "exec", "__import__", "torch.jit.load", "torch.hub.load"}:
        return f"{name}; it runs what it is given"
    if name in {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load"}:
        return f"{name}; yaml.safe_load makes no objects"
    if name.startswith("torch.serialization.") and "safe_globals" in name:
        return f"{name}; nothing more than tensors is ever read"
    return ""


def unspoken_encodings(root: Path) -> list[str]:
    """Complain of text whose encoding the machine's locale would choose: the libraries beside us change it."""
    complaints = []
    for path in modules(root).values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and is_text(node) and not {k.arg for k in node.keywords} & {"encoding", None}:
                complaints.append(f'{path.relative_to(root)}:{node.lineno}: text without encoding="utf-8"')
    return complaints


def is_text(call: ast.Call) -> bool:
    """Tell a call that opens, reads or writes a text file, or talks text with a process."""
    method = isinstance(call.func, ast.Attribute)
    name = call.func.attr if method else getattr(call.func, "id", "")
    if name == "open":
        modes = call.args[0 if method else 1 :][:1] + [k.value for k in call.keywords if k.arg == "mode"]
        return all(isinstance(mode, ast.Constant) and "b" not in str(mode.value) for mode in modes)
    return name in {"read_text", "write_text"} or any(k.arg in {"text", "universal_newlines"} for k in call.keywords)


RULES = [wrong_imports, circles, missing_tests, unwanted, unpickled, unspoken_encodings]


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(rule: Callable[[Path], list[str]]) -> None:
    complaints = rule(ROOT)
    assert not complaints, "\n".join(complaints)


def test_the_package_is_seen() -> None:
    assert ("utils", "keys") in modules(ROOT)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


GOOD = {
    "monai_ssl/__init__.py": "import importlib\n",
    "monai_ssl/utils/__init__.py": "from monai_ssl.utils.keys import K\n",
    "monai_ssl/utils/keys.py": "K = 1\n",
    "monai_ssl/losses/__init__.py": "from .base import L\nfrom .dice import D\n",
    "monai_ssl/losses/base.py": "import torch\nfrom monai_ssl.utils import K\nL = K\n",
    "monai_ssl/losses/dice.py": "from monai_ssl.losses.base import L\nD = L\nx.to(device)\n",
    "monai_ssl/data/split.py": "from monai_ssl import __version__\n",
    "monai_ssl/data/lists.py": "from .split import S\n",
    "monai_ssl/data/texts.py": "open('a', 'rb')\np.open(mode='ab')\nz.open(e)\np.read_text(encoding='utf-8')\n",
    "monai_ssl/cli/split.py": "import monai_ssl.data.lists\nprint(1)\n",
    "tests/utils/test_keys.py": "",
    "tests/losses/test_base.py": "",
    "tests/losses/test_dice.py": "",
    "tests/data/test_split.py": "",
    "tests/data/test_lists.py": "",
    "tests/data/test_texts.py": "",
    "tests/cli/test_split.py": "",
}


@pytest.mark.parametrize("rule", RULES)
def test_a_good_tree_passes(rule: Callable[[Path], list[str]], tmp_path: Path) -> None:
    assert rule(tree(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("rule", "name", "text", "complaint"),
    [
        (wrong_imports, "utils/keys.py", "import monai_ssl.losses\n", "utils may not import from losses"),
        (wrong_imports, "utils/keys.py", "from monai_ssl import data\n", "utils may not import from data"),
        (wrong_imports, "utils/keys.py", "from ..data.split import S\n", "utils may not import from data"),
        (wrong_imports, "utils/keys.py", "def f():\n    from monai_ssl.cli import app\n", "keys.py:2: utils may not"),
        (wrong_imports, "utils/__init__.py", "from ..losses import L\n", "utils may not import from losses"),
        (wrong_imports, "losses/base.py", "from .dice import D\n", "import no sibling"),
        (wrong_imports, "losses/dice.py", "from monai_ssl.losses import L\n", "import no sibling"),
        (wrong_imports, "extras/x.py", "", "extras has no place"),
        (wrong_imports, "cli/split.py", "from monai_ssl.extras import x\n", "not in the order"),
        (circles, "data/split.py", "from monai_ssl.data import lists\n", "data.lists -> data.split -> data.lists"),
        (circles, "utils/keys.py", "from monai_ssl.utils import K\n", "utils -> utils.keys -> utils"),
        (missing_tests, "data/other.py", "", "tests/data/test_other.py is missing"),
        (unwanted, "data/split.py", "print(1)\n", "split.py:1: print"),
        (unwanted, "data/split.py", "x = 1\nassert x\n", "split.py:2: assert"),
        (unwanted, "data/split.py", "x.cuda()\n", "device is the caller's"),
        (unwanted, "cli/split.py", "x.to('cuda:0')\n", "device is the caller's"),
        (unwanted, "data/split.py", "torch.zeros(1, device='cuda')\n", "device is the caller's"),
        (unwanted, "data/split.py", "torch.device('cuda')\n", "device is the caller's"),
        (
            unpickled,
            "data/split.py",
            "import torch\ntorch.load(p)\n",
            "split.py:2: torch.load without weights_only=True",
        ),
        (unpickled, "data/split.py", "torch.load(p, weights_only=False)\n", "without weights_only=True"),
        (unpickled, "data/split.py", "torch.load(p, weights_only=trusted)\n", "without weights_only=True"),
        (unpickled, "data/split.py", "torch.load(p, **options)\n", "without weights_only=True"),
        (unpickled, "data/split.py", "from torch import load\n", "torch.load; it unpickles"),
        (unpickled, "data/split.py", "np.load(p, allow_pickle=True)\n", "np.load with allow_pickle"),
        (unpickled, "data/split.py", "NumpyReader(allow_pickle=trusted)\n", "NumpyReader with allow_pickle"),
        (unpickled, "data/split.py", "def f():\n    import pickle\n", "split.py:2: pickle; it unpickles"),
        (unpickled, "data/split.py", "from joblib import load\n", "joblib.load; it unpickles"),
        (unpickled, "data/split.py", "yaml.load(t, Loader=yaml.Loader)\n", "yaml.load; yaml.safe_load"),
        (unpickled, "data/split.py", "yaml.unsafe_load(t)\n", "yaml.unsafe_load; yaml.safe_load"),
        (unpickled, "data/split.py", "eval(text)\n", "eval; it runs"),
        (unpickled, "data/split.py", "torch.jit.load(p)\n", "torch.jit.load; it runs"),
        (unpickled, "data/split.py", "torch.serialization.add_safe_globals([A])\n", "nothing more than tensors"),
        (unspoken_encodings, "data/split.py", "x = 1\nopen(p)\n", 'split.py:2: text without encoding="utf-8"'),
        (unspoken_encodings, "data/split.py", "open(p, 'a', newline='')\n", "text without encoding"),
        (unspoken_encodings, "data/split.py", "p.open('w')\n", "text without encoding"),
        (unspoken_encodings, "data/split.py", "p.read_text()\n", "text without encoding"),
        (unspoken_encodings, "data/split.py", "p.write_text(t)\n", "text without encoding"),
        (unspoken_encodings, "data/split.py", "run(c, text=True)\n", "text without encoding"),
    ],
)
def test_a_broken_tree_is_told(
    rule: Callable[[Path], list[str]], name: str, text: str, complaint: str, tmp_path: Path
) -> None:
    complaints = rule(tree(tmp_path, {**GOOD, f"monai_ssl/{name}": text}))
    assert len(complaints) == 1
    assert complaint in complaints[0]
