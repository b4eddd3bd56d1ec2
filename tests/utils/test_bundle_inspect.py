from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from monai_ssl.utils import bundle_inspect
from monai_ssl.utils.bundle_files import bundle_names, bundle_path
from monai_ssl.utils.bundle_inspect import inspect_bundle
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.weight_files import save_safetensors
from tests.payloads import HOSTILE
from tests.utils.test_config_entries import BOMB

# processes find out who they are; inference writes paths of scans as seen from their folder
PROCESSES = {("configs/multi_gpu_train.yaml", place) for place in ("imports::0", "device", "rank", "processes")}
HONEST = {
    "semi_segmentation": PROCESSES,
    "focalmix_detection": PROCESSES,
    "ssl_pretraining": PROCESSES | {("configs/inference.yaml", place) for place in ("imports::7", "run::0")},
}


def write(root: Path, name: str, content: str | bytes = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def marks(root: Path) -> dict[tuple[str, str], str]:
    return {(found.file, found.place): "; ".join(found.marks) for found in inspect_bundle(root).marked}


def test_every_bundle_of_ours_is_among_them() -> None:
    assert set(HONEST) == set(bundle_names())


@pytest.mark.parametrize("name", HONEST)
def test_our_bundles_reach_for_the_system_where_they_say(name: str) -> None:
    found = marks(bundle_path(name))
    assert set(found) == HONEST[name]
    assert all("os" in told for told in found.values())


def test_a_plain_bundle_is_listed_whole_and_not_marked(tmp_path: Path) -> None:
    write(tmp_path, "LICENSE", "text")
    write(tmp_path, "configs/metadata.json", '{"version": "1"}')
    write(
        tmp_path,
        "configs/train.yaml",
        "imports: ['$import torch.nn as nn']\nnet: {_target_: monai.networks.nets.UNet, n: '$len(@a)'}\n"
        "load: {_target_: monai.transforms.LoadImage, reader: monai.data.NibabelReader}\n"
        "other: '%inference.yaml::net'\n",
    )
    torch.save({"weight": torch.ones(2)}, write(tmp_path, "models/model.pt"))
    save_safetensors({"weight": torch.ones(2)}, tmp_path / "models" / "model.safetensors")
    (tmp_path / "models" / "last.pt").symlink_to("model.pt")
    result = inspect_bundle(tmp_path)
    assert not result.marked
    assert [(found.kind, found.file, found.place) for found in result.findings] == [
        ("file", "LICENSE", ""),
        ("config", "configs/metadata.json", ""),
        ("config", "configs/train.yaml", ""),
        ("import", "configs/train.yaml", "imports::0"),
        ("target", "configs/train.yaml", "load::_target_"),
        ("target", "configs/train.yaml", "load::reader"),
        ("target", "configs/train.yaml", "net::_target_"),
        ("expression", "configs/train.yaml", "net::n"),
        ("reference", "configs/train.yaml", "other"),
        ("link", "models/last.pt", ""),
        ("weights", "models/model.pt", ""),
        ("weights", "models/model.safetensors", ""),
    ]
    assert "weights_only=True" in result.findings[-2].text


@pytest.mark.parametrize(
    ("name", "content", "place", "told"),
    [
        ("configs/a.yaml", "x: {_target_: os.system}", "x::_target_", "is none of monai"),
        ("configs/a.yaml", "x: {_target_: UNet}", "x::_target_", "bare name"),
        ("configs/a.yaml", "x: {_target_: scripts.net.Net}", "x::_target_", "is none of"),
        ("configs/a.yaml", "x: {_target_: torch.os.system}", "x::_target_", "leads through os"),
        ("configs/a.yaml", "x: {_target_: $torch.nn.Linear}", "x::_target_", "worked out"),
        ("configs/a.yaml", "x: {_target_: '@y'}", "x::_target_", "worked out"),
        ("configs/a.json", '{"x": ["$open(1)"]}', "x::0", "uses open"),
        ("configs/a.yaml", "imports: [$import os as torch]\nx: $torch.nn", "x", "uses torch.nn"),
        ("configs/a.yaml", "imports: $from scripts import net", "imports", "imports scripts.net"),
        ("configs/a.yaml", "x: $1 +", "x", "no Python expression"),
        ("configs/a.yaml", "x: !!python/name:os.system", "x", "a tag that makes an object"),
        ("configs/a.yaml", "x: {reader: os.system}", "x::reader", "is none of"),
        ("configs/a.yaml", "x: '%/etc/other.yaml::y'", "x", "outside of the bundle"),
        ("configs/a.yaml", "x: '%../other.json::y'", "x", "outside of the bundle"),
        ("models/preprocessing.json", '{"spacing": "$exec(1)"}', "spacing", "uses exec"),
        ("configs/logging.conf", "[handler_x]\nclass=FileHandler\n", "handler_x::class", "writes or is unknown"),
        ("configs/logging.conf", "[handler_x]\nargs=(open('x', 'w'),)\n", "handler_x::args", "uses open"),
        ("configs/logging.conf", "[handler_x]\nargs=(sys.modules,)\n", "handler_x::args", "uses sys.modules"),
        ("configs/logging.conf", "args\n", "", "cannot be read as CONF"),
        ("configs/a.yaml", b"\xff", "", "no UTF-8"),
        ("configs/a.yaml", "[" * 10_000, "", "nested too deeply"),
        ("scripts/net.py", "x = 1", "", "is code"),
        ("scripts/net.so", "", "", "is code"),
        ("docs/start", "#!/bin/sh\n", "", "is a program"),
        ("docs/start", b"\x7fELF", "", "is a program"),
        ("models/model.plan", "", "", "compiled network"),
        ("models/model.safetensors", b"\xff" * 20, "", "cannot be read as safetensors"),
        ("models/model.pt", b"cos\nsystem\n(S'id'\ntR.", "", "would call os.system"),
        ("docs/notes.txt", b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "", "would call os.system"),
        ("docs/more.zip", b"PK\x05\x06" + bytes(18), "", ""),
    ],
)
def test_what_reaches_outside_is_marked_at_its_place(
    name: str, content: str | bytes, place: str, told: str, tmp_path: Path
) -> None:
    write(tmp_path, name, content)
    found = marks(tmp_path)
    assert told in found.get((name, place), "")
    assert found or not told


@pytest.mark.parametrize("form", HOSTILE)
def test_hostile_weights_are_marked_and_never_read(form: str, tmp_path: Path) -> None:
    root, victim = tmp_path / "bundle", tmp_path / "victim"
    path = write(root, "model.safetensors" if form.startswith("safetensors") else "model.pt")
    HOSTILE[form](path, victim)
    start = time.monotonic()
    found = marks(root)
    assert time.monotonic() - start < 20
    assert not victim.exists()
    # their calls are plain; what they would take is told where they are read
    assert bool(found) == (
        form not in {"deep recursion", "dictionary of itself", "shape without values", "memory asked for"}
    )


def test_links_and_what_is_no_file_are_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "bundle"
    outside = write(tmp_path, "secret/train.yaml", "x: $open(1)")
    write(root, "configs/metadata.json", "{}")
    (root / "file.yaml").symlink_to(outside)
    (root / "folder").symlink_to(outside.parent)
    (root / "gone").symlink_to("nowhere/../../x")
    (root / "circle").symlink_to(root)
    os.mkfifo(root / "pipe.yaml")
    executable = write(root, "docs/README.md", "text")
    executable.chmod(0o755)
    out = "leads out of the bundle, and was not followed"
    assert marks(root) == {
        ("file.yaml", ""): out,
        ("folder", ""): out,
        ("gone", ""): out,
        ("pipe.yaml", ""): "is no regular file",
        ("docs/README.md", ""): "may be executed",
    }


def test_the_work_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "bomb.yaml", BOMB)
    for number in range(8):
        write(tmp_path, f"c{number}.json", '{"x": 1}')
        write(tmp_path, f"w{number}.pt", b"\x80\x02].")
    budget, start = bundle_inspect._Budget, time.monotonic()
    assert marks(tmp_path) == {("bomb.yaml", "a0::0"): "uses x, which is none of monai, monai_ssl, torch, ignite"}
    assert time.monotonic() - start < 10
    monkeypatch.setattr(bundle_inspect, "_Budget", lambda: budget(len(BOMB) + 60, 6))
    found = marks(tmp_path)
    assert "not looked at" in found["c7.json", ""]
    assert [name for name, _ in found if name.startswith("w")] == ["w6.pt", "w7.pt"]
    monkeypatch.setattr(bundle_inspect, "_FILES", 3)
    assert "the rest was not looked at" in " ".join(marks(tmp_path).values())


def test_names_and_texts_that_are_no_text_go_into_json(tmp_path: Path) -> None:
    write(tmp_path, "a.json", '{"x": "$\\ud800"}')
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.yaml")).write_text("x: $os")
    content = json.dumps(inspect_bundle(tmp_path).as_dict(), ensure_ascii=False).encode()
    assert json.loads(content)["marked"] == 2


def test_what_it_says_as_plain_values(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "x: $os")
    assert inspect_bundle(tmp_path).as_dict() == {
        "bundle": str(tmp_path),
        "marked": 1,
        "findings": [
            {"kind": "config", "file": "a.yaml", "place": "", "text": "", "marks": []},
            {
                "kind": "expression",
                "file": "a.yaml",
                "place": "x",
                "text": "$os",
                "marks": ["uses os, which is none of monai, monai_ssl, torch, ignite"],
            },
        ],
    }


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"nowhere: is no folder\. Give the folder of a bundle; unpack an archive first"
    ):
        inspect_bundle(tmp_path / "nowhere")


def test_neither_torch_nor_monai_is_imported() -> None:
    program = (
        "import sys; from monai_ssl.utils.bundle_inspect import inspect_bundle; inspect_bundle(sys.argv[1]); "
        "sys.exit(' '.join(m for m in ('torch', 'monai', 'ignite') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(bundle_path("semi_segmentation"))], capture_output=True, text=True
    )
    assert done.stderr.strip() == ""
