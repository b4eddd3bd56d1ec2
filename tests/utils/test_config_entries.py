from __future__ import annotations

import time
from pathlib import Path

import pytest

from monai_ssl.utils.config_entries import read_entries

# nine levels of nine aliases: 387 million texts where they are written out
BOMB = "a0: &a0 [$x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))


def entries(tmp_path: Path, name: str, content: str | bytes) -> dict[str, str]:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return {entry.place: entry.fault or entry.text for entry in read_entries(path)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", "a: $1\nb:\n  - {_target_: x}\n  - - y\n2: null\n"),
        ("a.yml", "{a: $1, b: [{_target_: x}, [y]], 2: null}"),
        ("a.json", '{"a": "$1", "b": [{"_target_": "x"}, ["y"]], "2": 3}'),
    ],
)
def test_every_text_has_its_place(name: str, content: str, tmp_path: Path) -> None:
    found = entries(tmp_path, name, content)
    found.pop("2", None)
    assert found == {"a": "$1", "b::0::_target_": "x", "b::1::0": "y"}


def test_keys_that_come_twice_are_all_there(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": "$1", "a": "2"}')
    (tmp_path / "a.yaml").write_text("a: $1\na: two\n")
    for name in ("a.json", "a.yaml"):
        assert "$1" in [entry.text for entry in read_entries(tmp_path / name)]


def test_what_logging_evaluates(tmp_path: Path) -> None:
    text = "[handler_a]\nclass=StreamHandler\nargs=(sys.stdout,)\nlevel=INFO\n[formatter_b]\nformat=%(message)s\n"
    assert entries(tmp_path, "logging.conf", text) == {
        "handler_a::class": "StreamHandler",
        "handler_a::args": "(sys.stdout,)",
    }


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.yaml", "a: !!python/object/apply:os.system ['touch victim']\n", "is a tag that makes an object"),
        ("a.yaml", "a: !mine 3\n", "is a tag that makes an object"),
        ("a.yaml", "? !!python/name:os.system x\n: 1\n? [!mine k]\n: 2\n", "is a tag that makes an object"),
        ("a.yaml", "a: [\n", r"cannot be read as YAML (ParserError)"),
        ("a.yaml", "a: 1\n---\nb: 2\n", r"cannot be read as YAML (ComposerError)"),
        ("a.yaml", "[" * 50_000, "is nested too deeply"),
        ("a.json", "[" * 50_000, "is nested too deeply"),
        ("a.json", "{", "cannot be read as JSON (JSONDecodeError)"),
        ("a.json", b"\xff\xfe\x00", "is no UTF-8 text"),
        ("a.yaml", b"a: \xc3\x28", "is no UTF-8 text"),
        ("a.yaml", "a: \x00\n", "cannot be read as YAML (ReaderError)"),
        ("a.yaml", "a" * 300_000, "is larger than 262144 bytes"),
        ("a.json", "1" * 5_000_000, "is larger than 4194304 bytes"),
        ("a.json", "1" * 5_000, "cannot be read as JSON (ValueError)"),
        ("a.conf", "no section\n", "cannot be read as CONF (MissingSectionHeaderError)"),
    ],
)
def test_what_cannot_be_read_is_told_and_takes_no_time(
    name: str, content: str | bytes, fault: str, tmp_path: Path
) -> None:
    start = time.monotonic()
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert any(fault in entry.fault for entry in read_entries(path))
    assert time.monotonic() - start < 10
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_aliases_of_aliases_cost_nothing(tmp_path: Path) -> None:
    start = time.monotonic()
    assert "$x" in entries(tmp_path, "a.yaml", BOMB).values()
    assert entries(tmp_path, "b.yaml", "a: &a [*a, $x]\n") == {"a::1": "$x"}
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("content", ["", "# nothing\n", "3"])
def test_a_config_may_be_empty(content: str, tmp_path: Path) -> None:
    assert set(entries(tmp_path, "a.yaml", content).values()) <= {"3"}
