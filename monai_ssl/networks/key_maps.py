"""How other projects name the weights of networks that MONAI has: one small table a form, no code."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

__all__ = ["KEY_MAPS", "PLAIN", "PREFIXES", "WRAPPERS", "KeyMap", "bare_keys", "likely_maps"]

WRAPPERS = ("state_dict", "model", "net", "network_weights", "model_state_dict")
"""Entries of a checkpoint that may hold the state dict: Swin UNETR's and Lightning's, MONAI's, SuPreM's, nnU-Net's,
PyTorch's tutorials'."""

PREFIXES = ("module.", "_orig_mod.")
"""What ``DistributedDataParallel`` and ``torch.compile`` put before every name."""


@dataclass(frozen=True)
class KeyMap:
    """A form of state dict.

    Attributes:
        name: as reports name it.
        mark: a regular expression that some key of the form matches.
        renames: pairs of a regular expression and its replacement. Of those that match a key, the first whose result
            the network has is taken; a key that has none keeps its name.
        note: what a user must know, of what has no place in MONAI's networks above all.
        source: where the form is documented.
    """

    name: str
    mark: str
    renames: tuple[tuple[str, str], ...] = ()
    note: str = ""
    source: str = ""

    def sources(self, keys: Iterable[str], own: Collection[str]) -> dict[str, str]:
        """The key of the file for each entry of a network; where two keys want one entry the earlier one has it.

        Args:
            keys: the file's, bare (see :func:`bare_keys`).
            own: the names of the network's state dict.
        """
        found: dict[str, str] = {}
        for key in keys:
            name = self._rename(key, own)
            if name in own and name not in found:
                found[name] = key
        return found

    def _rename(self, key: str, own: Collection[str]) -> str:
        for pattern, replacement in self.renames:
            renamed, count = re.subn(pattern, replacement, key)
            if count and renamed in own:
                return renamed
        return key


def bare_keys(keys: Collection[str], own: Collection[str]) -> dict[str, str]:
    """The file's key by its name without :data:`PREFIXES`; these go only if every key has them and the network none.

    Args:
        keys: the file's.
        own: the names of the network's state dict.
    """
    bare = {key: key for key in keys}
    for prefix in PREFIXES * 2:  # a compiled network may be wrapped, and a wrapped one compiled
        if all(key.startswith(prefix) for key in bare) and not any(name.startswith(prefix) for name in own):
            bare = {key.removeprefix(prefix): original for key, original in bare.items()}
    return bare


def likely_maps(keys: Collection[str]) -> list[KeyMap]:
    """The forms that bare keys may have: :data:`PLAIN`, then those of :data:`KEY_MAPS` whose mark a key bears."""
    return [PLAIN, *(form for form in KEY_MAPS if any(re.search(form.mark, key) for key in keys))]


PLAIN = KeyMap("the network's own names", mark="")


def _plain_conv_unet(levels: int = 10) -> Iterator[tuple[str, str]]:
    # (a module of nnU-Net's, the places in DynUNet where it may belong): the deepest level is DynUNet's bottleneck
    places = [(r"encoder\.stages\.0\.0", ["input_block"])]
    for level in range(1, levels):
        places.append((rf"encoder\.stages\.{level}\.0", [f"downsamples.{level - 1}", "bottleneck"]))
    places.append((r"decoder\.stages\.(\d+)", [r"upsamples.\1.conv_block"]))
    for module, targets in places:
        for target in targets:
            for index in (0, 1):
                yield rf"^{module}\.convs\.{index}\.conv\.", f"{target}.conv{index + 1}.conv."
                yield rf"^{module}\.convs\.{index}\.norm\.", f"{target}.norm{index + 1}."
    yield r"^decoder\.transpconvs\.(\d+)\.", r"upsamples.\1.transp_conv.conv."


KEY_MAPS = (
    KeyMap(
        "pretext.pt of monai_ssl",
        mark=r"^network\.",
        renames=((r"^network\.", ""),),
        source="monai_ssl.networks.PretextNetwork",
    ),
    KeyMap(
        "Swin UNETR, self-supervised (model_swinvit.pt)",
        mark=r"^(swin_vit\.)?layers1\.0\.",
        renames=(
            (r"^(?:swin_vit\.)?(layers\d.*\.mlp\.)fc(\d)\.", r"swinViT.\1linear\2."),
            (r"^(?:swin_vit\.)?(patch_embed|layers\d)", r"swinViT.\1"),
        ),
        source="SwinUNETR.load_from; Project-MONAI/research-contributions, SwinUNETR/Pretrain/models/ssl_head.py",
    ),
    KeyMap(
        "Swin UNETR, disruptive autoencoders (ssl_pretrained_weights.pth)",
        mark=r"^encoder\.layers1\.0\.0\.",
        renames=(
            (r"^encoder\.(layers\d\.\d)\.\d\.", r"swinViT.\1."),
            (r"^encoder\.patch_embed\.", "swinViT.patch_embed."),
        ),
        source="monai.networks.nets.swin_unetr.filter_swinunetr",
    ),
    KeyMap(
        "a ViT or ViTAutoEnc, as the encoder of UNETR",
        mark=r"^patch_embedding\.",
        renames=((r"^(patch_embedding|blocks|norm|cls_token)\b", r"vit.\1"),),
        source="monai.networks.nets.ViTAutoEnc and UNETR, whose `vit` is the same ViT",
    ),
    KeyMap(
        "a ResNet, as the encoder of Detector",
        mark=r"^(network\.)?layer1\.0\.conv1\.",
        renames=((r"^(?:network\.)?(conv1|bn1|layer\d)\b", r"feature_extractor.encoder.\1"),),
        source="monai.networks.nets.ResNet and monai_ssl.networks.Detector, whose backbone is the same ResNet",
    ),
    KeyMap(
        "SuPreM (backbone of its universal model)",
        mark=r"^backbone\.",
        renames=((r"^backbone\.", ""),),
        source="MrGiovanni/SuPreM, target_applications/totalsegmentator/train.py",
    ),
    KeyMap(
        "nnU-Net or nnssl, PlainConvUNet, as DynUNet",
        mark=r"^encoder\.stages\.0\.0\.convs\.",
        renames=tuple(_plain_conv_unet()),
        note="of nnU-Net's networks DynUNet with res_block: false is the PlainConvUNet with two convolutions a level. "
        "It has no biases of convolutions, which an instance norm cancels, and biases of its transposed convolutions "
        "only with trans_bias: true; output layers are not taken over. nnU-Net's axes are (z, y, x), those of MONAI's "
        "readers (x, y, z): the kernels see a transposed volume",
        source="MIC-DKFZ/dynamic-network-architectures, architectures/unet.py; nnssl, nnsslTrainer/AbstractTrainer.py",
    ),
    # forms that are recognised so that a refusal can say what they are
    KeyMap(
        "nnU-Net or nnssl, residual encoder",
        mark=r"^encoder\.stem\.",
        note="these are weights of nnU-Net's residual encoder (nnssl's ResEncL), and no network of MONAI has its "
        "modules: DynUNet's residual blocks are one a level, without a stem. They fit a class of yours that is derived "
        "from nnU-Net's network and has a method encoder_taps()",
        source="MIC-DKFZ/nnssl, src/nnssl/architectures/architecture_registry.py",
    ),
    KeyMap(
        "nnssl, Primus",
        mark=r"(^|\.)eva\.blocks\.",
        note="these are weights of nnssl's transformer Primus, and no network of MONAI has its modules",
        source="MIC-DKFZ/nnssl, src/nnssl/architectures/architecture_registry.py",
    ),
    KeyMap(
        "SuPreM, U-Net",
        mark=r"(^|\.)down_tr64\.",
        note="these are weights of the U-Net of Models Genesis and SuPreM, and no network of MONAI has its modules; "
        "SuPreM's Swin UNETR and SegResNet fit MONAI's",
        source="MrGiovanni/SuPreM, backbone/unet.py",
    ),
)
"""The forms that are known beside :data:`PLAIN`."""
