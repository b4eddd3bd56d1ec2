from __future__ import annotations

import pydoc

import pytest

from monai_ssl.utils.dotted_names import doubt_of


@pytest.mark.parametrize(
    "name",
    [
        *("monai", "monai.networks.nets.UNet", "monai.apps.detection.transforms.dictionary.RandFlipBoxd"),
        *("torch.nn.Linear", "torch.optim.AdamW", "torch.nn.parallel.DistributedDataParallel", "torch.random.fork_rng"),
        *("ignite.handlers.EarlyStopping", "monai_ssl.objectives.MeanTeacher", "monai.utils.set_determinism"),
    ],
)
def test_names_inside_are_not_doubted(name: str) -> None:
    assert doubt_of(name) == ""


@pytest.mark.parametrize(
    ("name", "doubt"),
    [
        ("os.system", "is none of monai, monai_ssl, torch, ignite"),
        ("scripts.net.Net", "is none of"),
        ("monai_evil.Net", "is none of"),
        ("UNet", "bare name"),
        ("", "no dotted name"),
        ("torch..load", "no dotted name"),
        ("torch.nn.Linear()", "no dotted name"),
        ("torch.os.system", "leads through os out of torch"),
        ("monai.networks.utils.warnings.sys.exit", "leads through warnings out of monai"),
        ("torch.__builtins__.eval", "leads through __builtins__"),
        ("monai.data.image_reader.pickle.loads", "leads through pickle"),
        ("torch.load", "can load, download or start"),
        ("torch.hub.load", "can load"),
        ("torch.jit.load", "can load"),
        ("torch.utils.cpp_extension.load", "can load"),
        ("torch.ops.load_library", "can load"),
        ("torch.multiprocessing.spawn", "leads through multiprocessing"),
        ("monai.bundle.run", "can load"),
        ("monai.apps.download_and_extract", "can load"),
        ("monai.utils.optional_import", "can load"),
        ("monai.utils.misc.run_cmd", "can load"),
        ("monai_ssl.cli.main", "can load"),
    ],
)
def test_names_that_lead_out_are_told(name: str, doubt: str) -> None:
    assert doubt in doubt_of(name)


def test_a_package_does_lead_to_the_system() -> None:
    import os

    assert pydoc.locate("torch.os.system") is os.system
