"""What is shipped: the wheel holds the package and the bundles whole, and the source distribution can build it."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("monai_ssl", "bundles", "setup.cfg", "pyproject.toml", "MANIFEST.in", "LICENSE")
DOCUMENTS = ("README.md", "CHANGELOG.md", "constraints.txt", "Makefile")
LEFTOVERS = shutil.ignore_patterns("__pycache__", "*.pyc", "models")


def run(*command: str, cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "models" not in path.relative_to(folder).parts
    }


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, so that the checkout stays clean; a run's leftovers lie in a bundle of it."""
    copy = tmp_path_factory.mktemp("tree")
    for name in SOURCES + DOCUMENTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=LEFTOVERS)
        else:
            shutil.copy(ROOT / name, copy / name)
    leftover = copy / "bundles" / "semi_segmentation" / "models" / "run" / "model.pt"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"weights")
    return copy


@pytest.fixture(scope="module")
def installed(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel alone is installed."""
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(out), ".", cwd=tree)
    (wheel,) = out.glob("*.whl")
    run(*pip, "install", "--no-deps", "--no-index", "--target", str(out / "site"), str(wheel), cwd=out)
    return out / "site"


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_wheel_holds_every_file_of_the_bundles(installed: Path, tree: Path) -> None:
    assert files(tree / "bundles"), "there are no bundles"
    assert files(installed / "monai_ssl" / "bundles") == files(tree / "bundles")
    assert "semi_segmentation/configs/train.yaml" in files(installed / "monai_ssl" / "bundles")


def test_wheel_leaves_out_what_a_run_left_in_a_bundle(installed: Path) -> None:
    assert not list((installed / "monai_ssl" / "bundles").rglob("model.pt"))


def test_wheel_holds_every_file_of_the_package(installed: Path, tree: Path) -> None:
    shipped = {name for name in files(installed / "monai_ssl") if not name.startswith("bundles/")}
    assert shipped == files(tree / "monai_ssl"), "compare `packages` and `package_data` in setup.cfg"
    assert "py.typed" in shipped


def test_wheel_installs_nothing_beside_the_package(installed: Path) -> None:
    (metadata,) = installed.glob("*.dist-info")
    assert {path.name for path in installed.iterdir()} == {"monai_ssl", "bin", metadata.name}


def test_version_and_entry_point(installed: Path, setup: configparser.ConfigParser) -> None:
    (metadata,) = installed.glob("*.dist-info")
    distribution = PathDistribution(metadata)
    assert distribution.version == setup["metadata"]["version"]
    assert distribution.metadata["Requires-Python"] == ">=3.10"
    assert [(e.group, e.name, e.value) for e in distribution.entry_points] == [
        ("console_scripts", "monai-ssl", "monai_ssl.cli:main")
    ]
    assert (installed / "bin" / "monai-ssl").is_file()


def test_installed_package_is_imported_and_has_the_version(
    installed: Path, tmp_path: Path, setup: configparser.ConfigParser
) -> None:
    program = "import monai_ssl; print(monai_ssl.__version__, monai_ssl.__file__)"
    version, where = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(installed)).split()
    assert Path(where).parent == installed / "monai_ssl"
    assert version == setup["metadata"]["version"]


def test_every_requirement_is_among_the_tested_versions(setup: configparser.ConfigParser) -> None:
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    extras = setup["options.extras_require"]
    wanted = [*setup["options"]["install_requires"].split(), *extras["dev"].split(), *extras["docs"].split()]
    assert [name for name in wanted if name.split(">=")[0].lower() not in pinned] == []


def test_source_distribution_holds_what_a_build_needs(tree: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", str(tmp_path), ".", cwd=tree)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        packed = {name.split("/", 1)[1] for name in opened.getnames() if "/" in name}
    for folder in ("monai_ssl", "bundles"):
        assert {f"{folder}/{name}" for name in files(tree / folder)} <= packed
    assert set(DOCUMENTS) <= packed
    assert not [name for name in packed if name.endswith("model.pt")]
