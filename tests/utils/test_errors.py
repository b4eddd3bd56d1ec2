from __future__ import annotations

import errno
import re
import subprocess
import sys
import threading

import pytest
import torch

from monai_ssl.utils import errors
from monai_ssl.utils.errors import UserError, find_user_error, show_user_errors_as_one_line

START = """
import sys
from monai_ssl.utils.errors import UserError, show_user_errors_as_one_line
show_user_errors_as_one_line()
show_user_errors_as_one_line()
"""

DEEP = """
try:
    try:
        raise UserError("case_7.nii.gz: is\\nbroken. Leave it out.")
    except UserError as error:
        raise RuntimeError("applying transform") from error
except RuntimeError:
    raise KeyError("while handling")
"""

LOADER = """
from torch.utils.data import DataLoader, Dataset

class Broken(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        try:
            try:
                raise INNER
            except Exception as error:
                raise RuntimeError("applying transform") from error
        except RuntimeError as error:
            raise UserError("case_7.nii.gz: cannot be read (SAID). Leave it out.") from error

if __name__ == "__main__":
    for _ in DataLoader(Broken(), num_workers=WORKERS):
        pass
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, timeout=100)


def test_one_from_deep_in_a_chain_is_exactly_one_line() -> None:
    done = run(DEEP)
    assert done.stderr == "Error: case_7.nii.gz: is broken. Leave it out.\n"
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(("workers", "inner"), [(0, "ValueError('odd')"), (1, "UserError('odd')")])
def test_one_out_of_a_loader_is_exactly_one_line(workers: int, inner: str) -> None:
    said = inner.replace("('", ": ").replace("')", "")
    done = run(LOADER.replace("WORKERS", str(workers)).replace("INNER", inner).replace("SAID", said))
    assert done.stderr == f"Error: case_7.nii.gz: cannot be read ({said}). Leave it out.\n"
    assert done.returncode == 1


REFUSED = """
from monai.bundle import ConfigParser
ConfigParser({"optimizer": {"_target_": "torch.optim.SGD", "params": "$[torch.zeros(1)]", "lr": LR}}
             | {"imports": ["$import torch"]}).get_parsed_content("optimizer")
"""


def test_a_component_that_refuses_its_arguments_is_named_in_one_line() -> None:
    done = run(REFUSED.replace("LR", "-1.0"))
    assert done.stderr.splitlines() == [
        "Error: torch.optim.SGD: Invalid learning rate: -1.0. Check its settings; "
        "--debug true shows where they are used."
    ]
    assert re.match(
        "Error: torch.optim.SGD: lr is 'abc', and has to be .*float", run(REFUSED.replace("LR", "'abc'")).stderr
    )
    # what goes wrong in there for another reason is no mistake of the user's
    assert run(REFUSED.replace('"lr": LR', '"lr": "$torch.zeros(2).reshape(3)"')).stderr.startswith("Traceback")


EXPRESSION = """
import json
from monai.bundle import ConfigParser
ConfigParser({"of": {"steps": VALUE}, "short": "$min(50, @of#steps)", "deep": "$json.loads(@of#steps)"
    , "long": "$[min(number, @of#steps) for number in (1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000)]"
}, globals={"json": json}).get_parsed_content("NAME")
"""


def test_an_expression_that_cannot_be_computed_is_told_as_the_config_has_it() -> None:
    rest = "'<' not supported between instances of 'str' and 'int'. Check the settings that it names; "
    rest += "--debug true shows where it is used."
    for name, told in (
        ("short", "$min(50, @of#steps)"),
        ("long", "$[min(number, @of#steps) for number in (1000, 2000"),
    ):
        done = run(EXPRESSION.replace("VALUE", "'abc'").replace("NAME", name))
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(f"Error: {told}")
        assert done.stderr.endswith(f": {rest}\n")


@pytest.mark.parametrize(("value", "told"), [("0", "division by zero"), ("[]", "unsupported operand")])
def test_every_way_an_expression_has_to_fail_is_told(value: str, told: str) -> None:
    done = run(
        EXPRESSION.replace("VALUE", value).replace("$min(50, @of#steps)", "$1 / @of#steps").replace("NAME", "short")
    )
    assert done.stderr.startswith(f"Error: $1 / @of#steps: {told}")


def test_what_goes_wrong_below_an_expression_keeps_its_traceback() -> None:
    assert run(EXPRESSION.replace("VALUE", "'abc'").replace("NAME", "deep")).stderr.startswith("Traceback")


def test_any_other_error_keeps_its_traceback() -> None:
    done = run("raise ValueError('a bug')")
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ValueError: a bug\n")
    assert done.returncode == 1


def test_the_hook_hands_on_to_the_one_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[BaseException] = []
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, traceback: seen.append(error))
    show_user_errors_as_one_line()
    show_user_errors_as_one_line()
    assert sys.excepthook is errors._hook
    bug = ValueError("a bug")
    sys.excepthook(ValueError, bug, None)
    sys.excepthook(UserError, UserError("a mistake"), None)
    assert seen == [bug]
    assert capsys.readouterr().err == "Error: a mistake\n"


def test_nothing_is_found_where_nothing_is() -> None:
    assert find_user_error(None) is None
    assert find_user_error(ValueError("a bug")) is None


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert find_user_error(first) is None


def test_the_outermost_user_error_speaks() -> None:
    inner, outer = UserError("inner"), UserError("outer")
    outer.__cause__ = inner
    wrapper = RuntimeError("wrapped")
    wrapper.__context__ = outer
    assert str(find_user_error(wrapper)) == "outer"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_the_users_to_mend_whichever_file_met_it(number: int) -> None:
    try:
        try:
            raise OSError(number, "No space left on device", "run/steps.csv")
        except OSError as error:
            raise RuntimeError("engine stopped") from error
    except RuntimeError as error:
        found = find_user_error(error)
    assert str(found).startswith("run/steps.csv: no space left on the disk; the last checkpoint is intact.")


def test_other_errors_of_the_system_keep_their_traceback() -> None:
    assert find_user_error(PermissionError(errno.EACCES, "Permission denied", "x")) is None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8.00 EiB for an array with shape (1000000000000000000,)"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
    ],
    ids=["numpy", "GPU", "CPU"],
)
def test_memory_that_was_not_to_be_had_says_what_to_lower(error: Exception) -> None:
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = error
    found = find_user_error(wrapped)
    assert found is not None
    assert re.match(r"out of memory \(.*(allocate|memory).*\)\. Lower the batch sizes, patch_size or", str(found))
    assert "GPU 0" not in str(found)


def test_a_real_refusal_of_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert "you tried to allocate 4000000000000000 bytes" in str(find_user_error(caught.value))
