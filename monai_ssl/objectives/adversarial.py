"""A generator restores what was hidden, and a discriminator, which is what is kept, tells restored from real."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from monai_ssl.losses.reconstruction import masked_reconstruction
from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.objectives.base import Batch, Objective, Task
from monai_ssl.utils.errors import UserError

__all__ = ["Adversarial"]


class Adversarial(Objective):
    r"""Adversarial inpainting whose discriminator is the pretrained network.

    .. code-block:: text

        f discriminator: encoder with a head of one logit; g generator; x image, m mask, x_m masked image; n noise
        r                = m g(x_m) + (1 - m) x
        L_discrimination = (softplus(-f(x + n)) + softplus(f(r + n))) / 2        into f; no gradient into g
        L_deception      = softplus(-f(r + n))                                   into g; f's parameters are held
        L_restoration    = mean over masked voxels of |g(x_m) - x|               into g

    One backward pass and one optimiser serve both players: each term reaches its own player alone. AdamW's step does
    not depend on the scale of a player's loss, so weights do not say who learns faster; among the generator's two
    terms they do count.

    The generator starts from a masked scan and not from noise: the restoration term gives it a gradient from the first
    step, also while the discriminator wins; it cannot collapse to a few volumes; and its images differ from the real
    ones in the mask alone, so that the discriminator has to look there and not at brightness or field of view. The
    noise hides what no generator can copy and what would tell the two without any anatomy: the exact constant of air
    and padding, the last digits of an interpolation.

    Logged are ``real_accuracy`` and ``fake_accuracy``, the shares of real and restored images that the discriminator
    takes for what they are: both near 1 mean that it has won, one near 0 that it says the same to everything.

    Args:
        network: the discriminator; its bare network is deployed. Instance norm rather than batch norm: the three
            passes of a step are batches of their own.
        generator: maps the masked image to an image, ``(B, C, H, W[, D])``; a network of its own, trained with the
            objective and not deployed.
        masked: entry with the masked image.
        target: entry with the clean one.
        mask: entry that is true where it was masked.
        noise: deviation of the Gaussian noise on whatever the discriminator sees; in units of the normalised
            intensity, 0 or more.
        head: of the discriminator: its logit, such as that of :class:`~monai_ssl.networks.ProjectionHead` with
            ``channels=1``; a head with several logits, one a place, is averaged over.
        weights: see :class:`Objective`; the terms are ``discrimination``, ``deception`` and ``restoration``. That of
            ``deception`` is 0.1 by default.

    Raises:
        ValueError: when ``noise`` is negative, the network has no such head, or the players share parameters.
        UserError: when the generator answers with no image.

    Reference:
        A. Radford, L. Metz, S. Chintala: Unsupervised Representation Learning with Deep Convolutional Generative
        Adversarial Networks, ICLR 2016, https://arxiv.org/abs/1511.06434, section 5 (features of the discriminator).
        D. Pathak et al.: Context Encoders: Feature Learning by Inpainting, CVPR 2016,
        https://arxiv.org/abs/1604.07379, equations 1 to 3; there the generator's encoder is kept and the squared
        difference restored. C. K. Sonderby et al.: Amortised MAP Inference for Image Super-resolution, ICLR 2017,
        https://arxiv.org/abs/1610.04490 (noise on the discriminator's input; theirs fades).
    """

    def __init__(
        self,
        network: PretextNetwork,
        generator: nn.Module,
        masked: str = "masked",
        target: str = "image",
        mask: str = "mask",
        noise: float = 0.1,
        head: str = "real",
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, {"deception": 0.1, **(weights or {})})
        if noise < 0:
            raise ValueError(f"`noise` must be 0 or more, got {noise}.")
        if head not in network.heads:
            raise ValueError(f"`head` must be one of the network's, {', '.join(network.heads)}, got {head!r}.")
        if {*map(id, network.parameters())} & {*map(id, generator.parameters())}:
            raise ValueError("`generator` must be a network of its own, got one that shares parameters with `network`.")
        self.generator = generator
        self.masked = masked
        self.target = target
        self.mask = mask
        self.noise = noise
        self.head = head

    @property
    def deployed(self) -> nn.Module:
        """The discriminator's bare network, as a segmentation run builds it."""
        return self._discriminator.deployed

    def deployed_state(self) -> dict[str, Tensor]:
        """The encoder's entries: no untrained decoder."""
        return self._discriminator.pretrained_state()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``discrimination``, ``deception`` and ``restoration``."""
        entries = self.stream(batch, "unlabeled")
        masked, image, mask = (Task.entry(entries, name) for name in (self.masked, self.target, self.mask))
        generated = self.generator(masked).float()
        if generated.shape != image.shape:
            raise UserError(
                f"network_def: the generator must answer with an image {tuple(image.shape)}, got "
                f"{tuple(generated.shape)}. Take a network with a decoder, or a method that pretrains an encoder, such "
                "as masked_inpainting."
            )
        restoration = masked_reconstruction(generated, image, mask, kind="l1")
        restored = torch.where(mask.bool(), generated, image)

        real = self._logits(image)
        fake = self._logits(restored.detach())
        held = {name: parameter.detach() for name, parameter in self.network.named_parameters()}
        believed = self._logits(restored, held)

        self.figures = {
            "real_accuracy": (real.detach() > 0).float().mean(),
            "fake_accuracy": (fake.detach() < 0).float().mean(),
        }
        return {
            "discrimination": (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2,
            "deception": F.softplus(-believed).mean(),
            "restoration": restoration,
        }

    def _logits(self, images: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        noisy = images + self.noise * torch.randn_like(images)
        logits: Tensor = functional_call(self.network, dict(parameters or {}), (noisy, [self.head]))[self.head]
        return logits.float()

    @property
    def _discriminator(self) -> PretextNetwork:
        return self.network  # type: ignore[return-value]
