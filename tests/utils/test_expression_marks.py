from __future__ import annotations

import time

import pytest

from monai_ssl.utils.expression_marks import doubts_of_expression, imported_names

NAMES = {"dist": "torch.distributed", "osx": "os", "path": "os.path", "xp": "numpy"}


@pytest.mark.parametrize(
    "text",
    [
        "len(@class_names) + max(1, @a::b#0)",
        "@bundle_root + '/models'",
        "[p for p in @objective.parameters() if p.requires_grad]",
        "lambda views: views.flatten(0, 1)",
        "torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "np.arange(3).tolist() + [math.pi, numpy.float32(1)]",
        "dist.init_process_group('nccl' if @device.type == 'cuda' else 'gloo')",
        "monai_ssl.utils.bundle.as_bool(@resume)",
        "import torch.distributed as dist",
        "from monai.networks.nets import UNet",
        "import numpy as np",
        "xp.zeros(3)",
        "9**9**9",
    ],
)
def test_what_stays_inside_is_not_doubted(text: str) -> None:
    assert doubts_of_expression(text, NAMES) == []


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        ("__import__('os').system('id')", "uses __import__"),
        ("eval('1')", "uses eval"),
        ("exec(@a)", "uses exec"),
        ("open('/etc/passwd').read()", "uses open"),
        ("os.environ['HOME']", "uses os.environ"),
        ("osx.system('id')", "uses osx.system"),
        ("path.join('a')", "uses path.join"),
        ("subprocess.run(['id'])", "uses subprocess.run"),
        ("().__class__.__base__", "uses __class__"),
        ("@network.__init__.x", "uses __init__"),
        ("torch.os.system('id')", "leads through os"),
        ("@network.os.system('id')", "uses .os of an object"),
        ("torch.nn.Linear(1, 1).sys", "uses .sys of an object"),
        ("torch.load(@weights)", "can load"),
        ("np.load('x', allow_pickle=True)", "uses np.load"),
        ("xp.testing.os", "uses xp.testing.os"),
        ("getattr(torch, 'o' + 's')", "uses getattr"),
        ("'{0.__class__}'.format(@a)", "has text with __"),
        ("map(eval, @texts)", "uses eval"),
        ("(f := eval)('1')", "uses eval"),
        ("[(lambda os: 0), os.system('id')]", "binds os anew"),
        ("[[eval for eval in []], eval('1')]", "binds eval anew"),
        ("[(lambda osx: 0), osx.system('id')]", "binds osx anew"),
        ("import os", "imports os, which is none of"),
        ("from os import system", "imports os.system"),
        ("import torch, subprocess", "imports subprocess"),
        ("from . import scripts", "of the bundle itself"),
        ("import torch\nopen('x')", "uses open"),
        ("import\tos", "no Python expression"),
        ("1 +", "no Python expression"),
        ("a\x00b", "no Python expression"),
        ("(" * 5000, "no Python expression"),
        ("-" * 9000 + "1", "no Python expression"),
        ("1" * 20_000, "longer than 10000 characters"),
        ("scripts.net()", "uses scripts.net"),
    ],
)
def test_what_leads_out_is_told(text: str, doubt: str) -> None:
    assert doubt in "; ".join(doubts_of_expression(text, NAMES))


def test_a_doubt_is_told_once() -> None:
    assert doubts_of_expression("[os.sep, os.sep]") == ["uses os.sep, which is none of monai, monai_ssl, torch, ignite"]


def test_nothing_is_evaluated(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert doubts_of_expression(f"open({str(tmp_path / 'victim')!r}, 'w').close()")
    assert not list(tmp_path.iterdir())


def test_a_long_chain_takes_no_time() -> None:
    start = time.monotonic()
    doubts_of_expression("torch" + ".a" * 4900)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import torch.distributed as dist", {"dist": "torch.distributed"}),
        ("import os.path", {"os": "os"}),
        ("from os import path as p, sep", {"p": "os.path", "sep": "os.sep"}),
        ("torch.nn", {}),
        ("import 1", {}),
    ],
)
def test_imports_bind_names(text: str, names: dict[str, str]) -> None:
    assert imported_names(text) == names
