from __future__ import annotations

import re

import pytest
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.swin_unetr import filter_swinunetr

from monai_ssl.networks.key_maps import KEY_MAPS, PLAIN, KeyMap, bare_keys, likely_maps


def form(words: str) -> KeyMap:
    (found,) = [each for each in KEY_MAPS if words in each.name]
    return found


def renamed(words: str, key: str, *own: str) -> str | None:
    return {source: name for name, source in form(words).sources([key], own).items()}.get(key)


@pytest.mark.parametrize(
    ("words", "key", "own"),
    [
        ("pretext.pt", "network.model.0.conv.weight", "model.0.conv.weight"),
        ("model_swinvit", "patch_embed.proj.bias", "swinViT.patch_embed.proj.bias"),
        (
            "model_swinvit",
            "layers1.0.blocks.1.attn.qkv.weight",
            "swinViT.layers1.0.blocks.1.attn.qkv.weight",
        ),
        (
            "model_swinvit",
            "layers2.0.blocks.0.mlp.fc1.weight",
            "swinViT.layers2.0.blocks.0.mlp.linear1.weight",
        ),
        ("model_swinvit", "swin_vit.layers3.0.downsample.norm.bias", "swinViT.layers3.0.downsample.norm.bias"),
        (
            "model_swinvit",
            "swin_vit.layers2.0.blocks.0.mlp.linear2.weight",
            "swinViT.layers2.0.blocks.0.mlp.linear2.weight",
        ),
        ("ViTAutoEnc", "patch_embedding.position_embeddings", "vit.patch_embedding.position_embeddings"),
        ("ViTAutoEnc", "blocks.11.mlp.linear1.weight", "vit.blocks.11.mlp.linear1.weight"),
        ("ViTAutoEnc", "norm.bias", "vit.norm.bias"),
        ("a ResNet", "layer1.0.conv1.weight", "feature_extractor.encoder.layer1.0.conv1.weight"),
        ("a ResNet", "network.bn1.running_mean", "feature_extractor.encoder.bn1.running_mean"),
        ("backbone", "backbone.swinViT.patch_embed.proj.weight", "swinViT.patch_embed.proj.weight"),
        ("PlainConvUNet", "encoder.stages.0.0.convs.0.conv.weight", "input_block.conv1.conv.weight"),
        ("PlainConvUNet", "encoder.stages.3.0.convs.1.norm.bias", "downsamples.2.norm2.bias"),
        ("PlainConvUNet", "decoder.stages.1.convs.1.conv.weight", "upsamples.1.conv_block.conv2.conv.weight"),
        ("PlainConvUNet", "decoder.transpconvs.0.weight", "upsamples.0.transp_conv.conv.weight"),
    ],
)
def test_a_key_finds_its_entry(words: str, key: str, own: str) -> None:
    assert renamed(words, key, own, "else.weight") == own


def test_a_result_that_the_network_lacks_is_no_entry() -> None:
    assert renamed("PlainConvUNet", "encoder.stages.0.0.convs.0.conv.bias", "input_block.conv1.conv.weight") is None
    assert renamed("model_swinvit", "norm.weight", "swinViT.layers1.0.norm.weight") is None


def test_a_key_without_a_rule_keeps_its_name() -> None:
    assert renamed("disruptive", "decoder5.conv_block.conv1.conv.weight", "decoder5.conv_block.conv1.conv.weight")
    assert PLAIN.sources(["a.weight", "b.weight"], {"b.weight", "c.weight"}) == {"b.weight": "b.weight"}


@pytest.mark.parametrize(
    "key",
    [
        "encoder.patch_embed.proj.weight",
        "encoder.layers1.0.0.blocks.0.attn.qkv.weight",
        "encoder.layers4.0.0.downsample.reduction.weight",
        "encoder.layers3.0.0.blocks.1.mlp.linear1.bias",
    ],
)
def test_disruptive_autoencoders_are_named_as_monai_names_them(key: str) -> None:
    own, _ = filter_swinunetr(key, None)
    assert renamed("disruptive", key, own) == own


def stages(levels: int) -> list[str]:
    return [f"encoder.stages.{level}.0.convs.0.conv.weight" for level in range(levels)]


def dyn_unet(levels: int) -> DynUNet:
    return DynUNet(3, 1, 2, [3] * levels, [1] + [2] * (levels - 1), [2] * (levels - 1), filters=[2] * levels)


@pytest.mark.parametrize(("theirs", "ours"), [(3, 3), (5, 5), (5, 4), (4, 5)])
def test_the_deepest_level_of_dyn_unet_is_its_bottleneck(theirs: int, ours: int) -> None:
    levels = [
        "input_block.conv1.conv.weight",
        *(f"downsamples.{index}.conv1.conv.weight" for index in range(ours - 2)),
        "bottleneck.conv1.conv.weight",
    ]
    found = form("PlainConvUNet").sources(stages(theirs), dyn_unet(ours).state_dict())
    # a level that only the file has is left out, and never takes the place of a shallower one
    assert found == dict(zip(levels, stages(theirs), strict=False))


def test_the_first_of_two_keys_has_the_entry() -> None:
    assert form("backbone").sources(["backbone.a", "a"], {"a"}) == {"a": "backbone.a"}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_what_wraps_a_network_goes(prefix: str) -> None:
    keys = [f"{prefix}conv.weight", f"{prefix}conv.bias"]
    assert bare_keys(keys, {"conv.weight"}) == dict(zip(["conv.weight", "conv.bias"], keys, strict=True))


def test_what_is_part_of_the_name_stays() -> None:
    some = ["module.a", "b"]
    assert bare_keys(some, {"a"}) == {"module.a": "module.a", "b": "b"}
    wrapped_too = ["module.a", "module.b"]
    assert list(bare_keys(wrapped_too, {"module.a"})) == wrapped_too


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("network.model.0.conv.weight", "pretext.pt"),
        ("layers1.0.blocks.0.norm1.weight", "model_swinvit"),
        ("swin_vit.layers1.0.blocks.0.norm1.weight", "model_swinvit"),
        ("encoder.layers1.0.0.blocks.0.norm1.weight", "disruptive"),
        ("patch_embedding.cls_token", "ViTAutoEnc"),
        ("backbone.swinViT.patch_embed.proj.weight", "backbone"),
        ("encoder.stages.0.0.convs.0.conv.weight", "PlainConvUNet"),
        ("encoder.stem.convs.0.conv.weight", "residual encoder"),
        ("eva.blocks.0.norm1.weight", "Primus"),
        ("down_tr64.ops.0.conv1.weight", "SuPreM, U-Net"),
    ],
)
def test_a_form_is_known_by_its_mark(key: str, words: str) -> None:
    assert likely_maps(["else", key]) == [PLAIN, form(words)]


@pytest.mark.parametrize("key", ["model.0.conv.weight", "swinViT.layers1.0.norm.weight", "vit.blocks.0.norm1.weight"])
def test_names_of_monai_bear_no_mark(key: str) -> None:
    assert likely_maps([key]) == [PLAIN]


@pytest.mark.parametrize("each", KEY_MAPS, ids=lambda each: each.name)
def test_a_form_is_documented(each: KeyMap) -> None:
    assert each.source
    re.compile(each.mark)
    assert each.renames or each.note, "a form that renames nothing says why"
    assert not each.note.endswith(".")
