from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR, filter_swinunetr
from monai.networks.nets.vit import ViT
from monai.networks.utils import copy_model_state
from torch import Tensor, nn

from monai_ssl.networks.encoder import EncoderTaps, encode, encoder_keys
from monai_ssl.networks.heads import ProjectionHead
from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.networks.pretrained import load_pretrained
from monai_ssl.utils.errors import UserError
from tests.helpers import same
from tests.networks.helpers import dyn_unet, every_key_once, swin, unet, unetr

State = dict[str, Tensor]
Save = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Save:
    def save(content: Any, settings: Mapping[str, Any] | None = None, name: str = "model.pt") -> Path:
        torch.save(content, tmp_path / name)
        if settings is not None:
            (tmp_path / "preprocessing.json").write_text(json.dumps(settings))
        return tmp_path / name

    return save


def swinvit_file(network: SwinUNETR) -> Any:
    state = network.swinViT.state_dict()
    return {"state_dict": {f"module.{name.replace('mlp.linear', 'mlp.fc')}": value for name, value in state.items()}}


def test_self_supervised_swin_unetr_is_loaded_as_monai_loads_it(saved: Save) -> None:
    source, target, oracle = swin(), swin(), swin()
    oracle.load_state_dict(target.state_dict())
    content = swinvit_file(source)
    report = load_pretrained(target, saved(content))
    oracle.load_from(content)
    assert same(target.state_dict(), oracle.state_dict())
    assert "model_swinvit" in report.key_map
    assert report.encoder == encoder_keys(target) == report.matched
    assert not report.unexpected
    every_key_once(target, report)


def test_the_heads_of_swin_unetrs_own_pretraining_are_unexpected(saved: Save) -> None:
    source, target = swin(), swin()
    content = {f"swin_vit.{name}": value for name, value in source.swinViT.state_dict().items()}
    heads = {"rotation_head.weight": torch.ones(4, 3), "conv.0.weight": torch.ones(2, 2)}
    report = load_pretrained(target, saved(content | heads))
    assert report.unexpected == tuple(heads)
    assert same(target.swinViT.state_dict(), source.swinViT.state_dict())


def test_disruptive_autoencoders_are_loaded_as_monai_loads_them(saved: Save) -> None:
    source, target, oracle = swin(), swin(), swin()
    oracle.load_state_dict(target.state_dict())
    state = {}
    for name, value in source.swinViT.state_dict().items():
        head, *rest = name.split(".")
        state[".".join(["encoder", name] if head == "patch_embed" else ["encoder", head, "0", *rest])] = value
    content = {"model": {**state, "encoder.mask_token": torch.ones(1), "encoder.norm.weight": torch.ones(2)}}
    report = load_pretrained(target, saved(content))
    copy_model_state(oracle, content["model"], filter_func=filter_swinunetr)
    assert same(target.state_dict(), oracle.state_dict())
    assert "disruptive" in report.key_map
    assert report.unexpected == ("encoder.mask_token", "encoder.norm.weight")


@pytest.mark.parametrize("make", [swin, lambda: SegResNet(3, 8)])
@pytest.mark.parametrize("prefix", ["module.backbone.", "module."])
def test_suprem_is_loaded(make: Callable[[], nn.Module], prefix: str, saved: Save) -> None:
    source, target = make(), make()
    content = {f"{prefix}{name}": value for name, value in source.state_dict().items()}
    heads = {"module.organ_embedding": torch.ones(3), "module.GAP.0.weight": torch.ones(2)}
    report = load_pretrained(target, saved({"net": content | heads, "epoch": 3}))
    assert same(target.state_dict(), source.state_dict())
    assert report.unexpected == tuple(heads)
    assert ("SuPreM" in report.key_map) == (prefix == "module.backbone.")


class PlainStage(nn.Module):
    """A level of nnU-Net's PlainConvUNet, written after its description: convolution with bias, norm, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.Sequential()
        for step in ((inputs, stride), (outputs, 1)):
            block = nn.Module()
            block.conv = nn.Conv3d(step[0], outputs, 3, step[1], 1)
            block.norm = nn.InstanceNorm3d(outputs, affine=True)
            block.all_modules = nn.Sequential(block.conv, block.norm, nn.LeakyReLU())  # the same under a second name
            self.convs.append(block)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.convs:
            x = block.all_modules(x)  # type: ignore[operator]
        return x


class PlainConvUNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.stages = nn.Sequential(
            *(nn.Sequential(PlainStage(*sizes)) for sizes in ((1, 2, 1), (2, 4, 2), (4, 6, 2)))
        )
        self.decoder.encoder = self.encoder
        self.decoder.stages = nn.ModuleList([PlainStage(8, 4, 1), PlainStage(4, 2, 1)])
        self.decoder.transpconvs = nn.ModuleList([nn.ConvTranspose3d(6, 4, 2, 2), nn.ConvTranspose3d(4, 2, 2, 2)])
        self.decoder.seg_layers = nn.ModuleList([nn.Conv3d(4, 2, 1), nn.Conv3d(2, 2, 1)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps of the encoder, then those of the decoder."""
        maps = [x := stage(x) for stage in self.encoder.stages]  # type: ignore[union-attr, operator]
        ups = []
        for level, (up, stage) in enumerate(zip(self.decoder.transpconvs, self.decoder.stages, strict=True)):  # type: ignore[arg-type]
            ups.append(x := stage(torch.cat([up(x), maps[1 - level]], 1)))
        return maps + ups


def test_dyn_unet_computes_what_the_plain_network_of_nnu_net_does(saved: Save) -> None:
    source, target = PlainConvUNet(), dyn_unet(trans_bias=True)
    for parameter in source.parameters():
        nn.init.normal_(parameter, std=0.5)
    report = load_pretrained(target, saved({"network_weights": source.state_dict(), "current_epoch": 3}))
    volume = torch.randn(1, 1, 16, 16, 16)
    decoded: list[Tensor] = []
    for up in target.upsamples:
        up.register_forward_hook(lambda module, inputs, output: decoded.append(output))
    target(volume)
    for own, theirs in zip([*encode(target, volume), *decoded], source(volume), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)
    assert report.missing == ("output_block.conv.conv.weight", "output_block.conv.conv.bias")
    assert {name.split(".")[-1] for name in report.unexpected if "seg_layers" not in name} == {"bias"}
    assert any("(z, y, x)" in warning for warning in report.warnings)
    assert report.encoder == encoder_keys(target)
    every_key_once(target, report)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("encoder.stem.convs.0.conv.weight", "nnU-Net's residual encoder .*no network of MONAI"),
        ("eva.blocks.0.norm1.weight", "Primus, and no network of MONAI"),
        ("down_tr64.ops.0.conv1.weight", "Models Genesis and SuPreM, and no network of MONAI"),
    ],
)
def test_what_no_network_of_monai_can_take_is_said(key: str, words: str, saved: Save) -> None:
    with pytest.raises(UserError, match=rf"model\.pt: nothing of it fits the encoder of DynUNet: .*{words}"):
        load_pretrained(dyn_unet(), saved({"network_weights": {key: torch.ones(2)}}))


def test_a_class_with_the_same_modules_takes_a_form_that_monai_has_not(saved: Save) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.ModuleDict({"stem": nn.Conv3d(1, 2, 3)})

        def encoder_taps(self) -> EncoderTaps:
            return EncoderTaps([self.encoder])

    source, target = Own(), Own()
    report = load_pretrained(target, saved({"network_weights": source.state_dict()}))
    assert same(target.state_dict(), source.state_dict())
    assert report.warnings == ()


def test_a_vit_becomes_the_encoder_of_unetr(saved: Save) -> None:
    source = ViT(1, (32, 32, 32), (16, 16, 16), hidden_size=12, mlp_dim=16, num_heads=2)
    target = unetr()
    report = load_pretrained(target, saved({"state_dict": source.state_dict()}))
    assert same(target.vit.state_dict(), source.state_dict())
    assert report.encoder == encoder_keys(target)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {"model_state_dict": {f"_orig_mod.{name}": value for name, value in state.items()}},
    ],
)
@pytest.mark.parametrize("make", [unet, dyn_unet])
def test_own_names_are_found_in_any_wrapping(
    make: Callable[[], nn.Module], wrap: Callable[[State], Any], saved: Save
) -> None:
    source, target = make(), make()
    report = load_pretrained(target, saved(wrap(source.state_dict())))
    assert same(target.state_dict(), source.state_dict())
    assert set(report.matched) == set(target.state_dict())
    assert not report.warnings


def test_pretext_pt_gives_its_network(saved: Save) -> None:
    source = PretextNetwork(unet(), {"projection": ProjectionHead([(2, 8, 8, 8), (4, 4, 4, 4), (8, 4, 4, 4)], 4)})
    target = unet()
    report = load_pretrained(target, saved(source.state_dict(), name="pretext.pt"))
    assert same(target.state_dict(), source.network.state_dict())
    assert report.key_map == "pretext.pt of monai_ssl"
    assert report.unexpected
    assert all(name.startswith("heads.") for name in report.unexpected)


def test_the_encoder_alone_leaves_the_decoder_as_it_was(saved: Save) -> None:
    source, target = unet(outputs=1), unet(outputs=5)
    before = copy.deepcopy(target.state_dict())
    keys = encoder_keys(source)
    report = load_pretrained(target, saved({name: source.state_dict()[name] for name in keys}))
    assert report.encoder == report.matched == report.loaded == keys
    for name, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[name] if name in keys else before[name])
    assert not report.warnings


def test_both_patch_sizes_tell_the_grids_of_positions(saved: Save) -> None:
    name, old, new = "vit.patch_embedding.position_embeddings", (32, 48, 16), (48, 32, 32)
    path = saved(unetr(old).state_dict(), {"patch_size": old})
    report = load_pretrained(unetr(new), path, preprocessing={"patch_size": new})
    assert report.adapted == {name: "tokens interpolated from 2 x 3 x 1 to 3 x 2 x 2"}
    assert not report.warnings


def test_positions_of_unknown_boxes_are_left_out(saved: Save) -> None:
    source, target = unetr((32, 48, 16)), unetr((48, 32, 32))
    report = load_pretrained(target, saved(source.state_dict()))
    name = "vit.patch_embedding.position_embeddings"
    assert report.mismatched == {name: "1 x 6 x 12 in the file, 1 x 12 x 12 in the network"}
    assert any(name in warning and "stay as initialised" in warning for warning in report.warnings)


def refused(network: nn.Module, path: Path, match: str, **more: Any) -> None:
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(UserError, match=match):
        load_pretrained(network, path, **more)
    assert same(network.state_dict(), before)


def test_a_file_without_the_encoder_is_refused(saved: Save, tmp_path: Path) -> None:
    source, target = unet(), unet()
    decoder = {name: value for name, value in source.state_dict().items() if name not in encoder_keys(source)}
    report = tmp_path / "transfer.json"
    refused(target, saved(decoder), r"model\.pt: nothing of it fits the encoder of UNet: .*network_def", report=report)
    assert not report.exists()


def test_counters_of_batches_are_no_pretraining(saved: Save) -> None:
    other = unet((3, 5, 7), norm="BATCH")
    refused(
        unet(norm="BATCH"),
        saved({name: value for name, value in other.state_dict().items() if "adn.A" not in name}),
        r"nothing of it fits the encoder of UNet: model\.0\.conv\.unit0\.conv\.weight is 3 x 1 x 3 x 3 x 3 in the "
        "file, 2 x 1 x 3 x 3 x 3 in the network",
    )


def test_another_size_of_a_renamed_form_is_told_by_its_shapes(saved: Save) -> None:
    content = swinvit_file(swin(size=24))
    content["state_dict"] = {name: value for name, value in content["state_dict"].items() if "table" not in name}
    refused(swin(size=12), saved(content), r"swinViT\.patch_embed\.proj\.weight is 24 x 1 x .* in the file, 12 x 1 x")


def test_a_network_whose_encoder_is_unknown_needs_any_match(saved: Save) -> None:
    source, target = (nn.Sequential(nn.Conv3d(1, 2, 3), nn.Linear(2, 3)) for _ in range(2))
    report = load_pretrained(target, saved({"1.bias": source.state_dict()["1.bias"]}))
    assert report.matched == ("1.bias",)
    assert report.encoder == ()
    assert "of the encoder" not in str(report)
    refused(target, saved({"2.bias": torch.ones(3)}), "nothing of it fits Sequential: its keys are like 2.bias")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("inputs", [1, 2])
def test_a_diverged_pretraining_is_refused(value: float, inputs: int, saved: Save) -> None:
    state = unet().state_dict()
    state["model.0.conv.unit0.conv.weight"][0, 0, 0, 0, 0] = value
    refused(unet(inputs=inputs), saved(state), r"model\.0\.conv\.unit0\.conv\.weight holds NaN or infinite .* earlier")


def test_what_is_not_loaded_may_hold_anything(saved: Save) -> None:
    load_pretrained(unet(), saved({**unet().state_dict(), "head.weight": torch.tensor([float("nan")])}))


def test_a_resume_pt_and_a_missing_file_are_named(saved: Save, tmp_path: Path) -> None:
    resume = {"format": 1, "objective": unet().state_dict(), "optimizer": {}, "iteration": 3}
    refused(unet(), saved(resume, name="resume.pt"), r"resume\.pt: is no plain state dict .* not its resume\.pt")
    refused(unet(), tmp_path / "none.pt", r"none\.pt: there are no weights here\. Give --pretrained RUN/model\.pt\.")


def test_a_report_that_cannot_be_written_stops_before_anything_is_loaded(saved: Save, tmp_path: Path) -> None:
    target = unet()
    before = copy.deepcopy(target.state_dict())
    with pytest.raises(OSError, match="nowhere"):
        load_pretrained(target, saved(unet().state_dict()), report=tmp_path / "nowhere" / "transfer.json")
    assert same(target.state_dict(), before)


def test_only_values_change(saved: Save) -> None:
    target = unet().eval()
    parameters = {name: (id(value), value.requires_grad) for name, value in target.named_parameters()}
    path = saved({name: value.half() for name, value in unet().state_dict().items()})
    load_pretrained(target, path)
    assert {name: (id(value), value.requires_grad) for name, value in target.named_parameters()} == parameters
    assert {value.dtype for value in target.parameters()} == {torch.float32}
    assert not target.training


SETTINGS = {
    "modality": "CT",
    "orientation": "RAS",
    "spacing": [1.0, 1.0, 1.5],
    "intensity_range": [-175.0, 250.0],
    "bias_correction": False,
    "patch_size": [32, 32, 32],
    "in_channels": 1,
    "class_names": ["background", "liver"],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modality": "MRI"}, "the pretraining saw CT volumes, this run sees MRI"),
        ({"orientation": "LPS"}, "in orientation RAS, this run sees LPS"),
        ({"spacing": [1.0, 1.0, 2.0]}, "voxels of 1, 1, 1.5 mm, this run has 1, 1, 2 mm"),
        ({"intensity_range": [-1000.0, 1000.0]}, "the window -175, 250 HU, this run maps -1000, 1000 HU"),
        ({"bias_correction": True}, "the pretraining had bias_correction False, this run has True"),
        ({"in_channels": 2}, r"saw 1 channel\(s\), this run has 2"),
        ({"channel_names": ["T2", "T1"]}, "the channels T1, T2, this run has T2, T1"),
    ],
)
def test_each_difference_is_one_warning(
    change: dict[str, Any], words: str, saved: Save, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = {**SETTINGS, "channel_names": ["T1", "T2"]}
    report = load_pretrained(unet(), saved(unet().state_dict(), theirs), preprocessing={**theirs, **change})
    (warning,) = report.warnings
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [warning]
    assert re.search(words, warning)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"patch_size": [64, 64, 64], "class_names": ["background", "spleen"]},
        {"spacing": (1, 1, 1.5)},
        {"spacing": [1.0, 1.0, 1.5000001]},
    ],
)
def test_what_agrees_or_does_not_matter_is_no_warning(change: dict[str, Any], saved: Save) -> None:
    path = saved(unet().state_dict(), SETTINGS)
    assert load_pretrained(unet(), path, preprocessing={**SETTINGS, **change}).warnings == ()


def test_the_window_is_of_ct_alone(saved: Save) -> None:
    theirs = {**SETTINGS, "modality": "MRI"}
    path = saved(unet().state_dict(), theirs)
    assert not load_pretrained(unet(), path, preprocessing={**theirs, "intensity_range": [0.0, 1.0]}).warnings


def test_without_the_file_one_line_says_so(saved: Save, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = saved(unet().state_dict())
    assert load_pretrained(unet(), path, preprocessing=SETTINGS).warnings == ()
    told = [record for record in caplog.records if "cannot be compared" in record.getMessage()]
    assert [record.levelno for record in told] == [logging.INFO]


@pytest.mark.parametrize(("text", "words"), [("{", "is not valid JSON"), ("[]", "must hold a JSON object")])
def test_a_broken_preprocessing_file_is_named(text: str, words: str, saved: Save) -> None:
    path = saved(unet().state_dict())
    path.with_name("preprocessing.json").write_text(text)
    refused(unet(), path, rf"preprocessing\.json: {words}")


def test_the_report_is_written_and_read_back(saved: Save, tmp_path: Path) -> None:
    path, file = saved(unet().state_dict(), SETTINGS), tmp_path / "transfer.json"
    target = unet((2, 4, 9), inputs=2)
    report = load_pretrained(target, path, preprocessing={**SETTINGS, "in_channels": 2}, report=file)
    content = json.loads(file.read_text())
    assert content["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert content["file"] == path.name  # no folder of this machine
    assert content["key_map"] == "the network's own names"
    assert content["matched"] == list(report.matched)
    assert content["adapted"] == report.adapted
    assert content["mismatched"] == report.mismatched
    assert len(content["warnings"]) == 2
    every_key_once(target, report)

    path.unlink()
    before = copy.deepcopy(target.state_dict())
    assert load_pretrained(target, path, report=file, resume=True) == dataclasses.replace(report, file=path.name)
    assert same(target.state_dict(), before)


def test_a_resumed_run_needs_its_report(saved: Save, tmp_path: Path) -> None:
    path, file = saved(unet().state_dict()), tmp_path / "transfer.json"
    with pytest.raises(ValueError, match="`report` must be given with `resume`"):
        load_pretrained(unet(), path, resume=True)
    for text in (None, "{", "[]", '{"file": "a"}'):
        if text is not None:
            file.write_text(text)
        refused(unet(), path, r"transfer\.json: cannot be read as the report .* Restore it", report=file, resume=True)
    load_pretrained(unet(), path, report=file)
    refused(dyn_unet(), path, r"transfer\.json: names \S+, which this network has not", report=file, resume=True)


def test_the_log_has_the_line_and_the_table(saved: Save, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "monai_ssl.networks.pretrained")
    report = load_pretrained(unet(), saved(unet().state_dict()))
    assert [record.getMessage() for record in caplog.records] == [str(report), report.table()]
