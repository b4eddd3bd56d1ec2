"""Learned transforms: a registration moves labelled cases onto unlabelled ones, and the network learns from both."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss
from monai.networks.blocks import Warp
from torch import Tensor, nn
from torch.nn import functional as F

from monai_ssl.losses.confidence import kept_fraction
from monai_ssl.losses.pseudo_label import MaskedDiceCELoss
from monai_ssl.losses.registration import displacement_bending
from monai_ssl.networks.teacher import make_teacher
from monai_ssl.objectives.base import Batch, TeacherObjective
from monai_ssl.transforms.blur import gaussian_blur
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.predictions import predicted_classes

__all__ = ["LearnedTransforms"]


class LearnedTransforms(TeacherObjective):
    r"""Registration-learned augmentation and atlas labels.

    .. code-block:: text

        x, y labelled; u unlabelled, v another unlabelled case; f student; r registration, r(a, b) moves a onto b
        phi            = r(x, u),  psi = r(v, x)                  displacements in voxels
        L_registration = 1 - mean(lncc(x o phi, u), lncc(v o psi, x)) + smoothness * bending(phi, psi)
        L_supervised   = loss(f(x), y)
        while progress < registration_share: L_synthetic = L_atlas = 0; then, without a gradient into r:
        x'             = (x + G * (v o psi - x)) o phi            v's appearance, u's anatomy
        y'             = argmax_c (onehot(y)_c o phi)
        L_synthetic    = loss(f(x'), y')
        L_atlas        = atlas_loss(f(u), y', lncc(x o phi, u) > min_similarity)

    The composition o samples linearly, the border repeated; G is a Gaussian; lncc is the squared correlation within
    ``window`` voxels around each one; the registration sees no label. The student's terms train it alone and
    ``registration`` the registration alone, so that without the weights of the other two the student learns as if
    supervised.

    For scans that show the same anatomy in about the same place and orientation, each whole in its patch but for a few
    voxels: brain structures, a cropped organ. Patches from anywhere in a large scan, or flipped at random, have nothing
    to be registered with: ``similarity`` then stays close to ``before``. Patches arrive augmented, and that is
    as well: the label came along, the correlation overlooks brightness and contrast, and bending energy costs no
    rotation or scaling; but what augmentation turns far is registered worse.

    Pairs: as many as the larger of B_l and B_u, N; the smaller part is repeated, and v is the next unlabelled case
    (itself where there is but one: take 2 or more). Passes: registration 1 of 2 N, both ways in one, with gradient and
    in float32 in any precision; student 1 of B_l + 2 N, in the first phase of B_l. The student is deployed, or its
    moving average.

    Logged are ``similarity``, the mean correlation of the registered pairs, ``before``, that of the same pairs as they
    came, ``kept``, the share of voxels whose atlas label is learned from, and ``kept_foreground``, that of those
    with a label other than 0; the last two are NaN in the first phase.

    Args:
        network: the student; maps an image to logits.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``.
        registration: maps moving and fixed images to moved images and displacements ``(B, A, H, W[, D])`` in voxels
            along the A axes, as :class:`monai.networks.nets.VoxelMorph`. Of that leave ``half_res`` off: MONAI 1.6
            integrates velocities four times too large there.
        atlas_loss: compares logits with labels where a mask ``(B, 1, H, W[, D])`` is true;
            :class:`~monai_ssl.losses.MaskedDiceCELoss` by default.
        shrink: the registration sees images whose voxels are the means of cubes of that many a side, from 1; at 2 it
            costs an eighth. Window, correlation and bending energy are those of these voxels.
        window: side of the window of the correlation, an odd number of voxels from 3; VoxelMorph's is 9 without
            shrinking.
        smoothness: weight of the bending energy, from 0; 0.02 to 0.1 differ little, at 1 hardly anything moves.
        appearance_sigma: deviation of the Gaussian in voxels, from 0, where all of v is taken over. A wide one takes
            over brightness and shading alone, a narrow one v's anatomy, too, where the registration failed.
        min_similarity: correlation above which an atlas label is learned from, in [0, 1]; 0 keeps nearly all.
        registration_share: share of the run in which the registration learns alone beside ``supervised``, in [0, 1].
        decay: the largest decay of a moving average of the student that is deployed, in [0, 1), 0.99 say; None: the
            student is deployed.
        weights: see :class:`~monai_ssl.objectives.Objective`; the terms are ``supervised``, ``registration``,
            ``synthetic`` and ``atlas``.

    Raises:
        ValueError: when an argument is out of range.
        UserError: in a step, when labelled and unlabelled patches differ in shape, or the registration refuses their
            size or does not answer with displacements.

    Reference:
        A. Zhao et al.: Data augmentation using learned transformations for one-shot medical image segmentation,
        CVPR 2019, https://arxiv.org/abs/1902.09383: one atlas, and two networks trained beforehand, of which the second
        learns the appearance; ours is what the same registration leaves over, low-pass filtered, and all is learned in
        one run. There atlas labels are a baseline. Registration G. Balakrishnan et al.: VoxelMorph, TMI 2019,
        https://arxiv.org/abs/1809.05231, and A. Dalca et al., MedIA 2019, https://arxiv.org/abs/1903.03545, both with
        the squared gradient of the displacement, which costs rotation and scaling, in place of bending energy.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        registration: nn.Module,
        atlas_loss: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        shrink: int = 2,
        window: int = 5,
        smoothness: float = 0.05,
        appearance_sigma: float = 3.0,
        min_similarity: float = 0.4,
        registration_share: float = 0.2,
        decay: float | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, 0.0 if decay is None else decay, weights=weights)
        if shrink < 1:
            raise ValueError(f"`shrink` must be at least 1 voxel, got {shrink}.")
        if window < 3 or window % 2 == 0:
            raise ValueError(f"`window` must be an odd number of voxels from 3, got {window}.")
        if smoothness < 0:
            raise ValueError(f"`smoothness` must be 0 or more, got {smoothness}.")
        if appearance_sigma < 0:
            raise ValueError(f"`appearance_sigma` must be 0 or more voxels, got {appearance_sigma}.")
        if not 0.0 <= min_similarity <= 1.0:
            raise ValueError(f"`min_similarity` must be in [0, 1], got {min_similarity}.")
        if not 0.0 <= registration_share <= 1.0:
            raise ValueError(f"`registration_share` must be in [0, 1], a share of the run, got {registration_share}.")
        self.loss = loss
        self.registration = registration
        self.atlas_loss = MaskedDiceCELoss() if atlas_loss is None else atlas_loss
        self.shrink = shrink
        self.window = window
        self.smoothness = smoothness
        self.appearance_sigma = appearance_sigma
        self.min_similarity = min_similarity
        self.registration_share = registration_share
        self.teacher = None if decay is None else make_teacher(network)
        with warnings.catch_warnings():
            # that MONAI's compiled kernels are absent is no news for whoever trains
            warnings.simplefilter("ignore", UserWarning)
            self.warp = Warp(mode="bilinear", padding_mode="border")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The term ``supervised``; with unlabelled images ``registration``, ``synthetic`` and ``atlas`` as well."""
        labeled = self.stream(batch, "labeled")
        image, label = labeled["image"], labeled["label"]
        self.figures = {}
        if "unlabeled" not in batch:
            return {"supervised": self.loss(self.network(image), label)}
        x, y, u, v = _pairs(image, label, batch["unlabeled"]["image"])
        count = len(x)
        term, displacement, similarity = self._register(torch.cat([x, v]), torch.cat([u, x]))
        if self.progress < self.registration_share:
            nothing = torch.zeros_like(term.detach())
            self.figures |= {"kept": nothing / 0, "kept_foreground": nothing / 0}
            supervised = self.loss(self.network(image), label)
            return {"supervised": supervised, "registration": term, "synthetic": nothing, "atlas": nothing}
        synthetic, moved = self._synthesize(x, y, v, *displacement.split(count))
        trusted, foreground = similarity[:count] > self.min_similarity, moved > 0
        share = (trusted & foreground).sum() / foreground.sum().clamp_min(1)
        self.figures |= {"kept": kept_fraction(trusted), "kept_foreground": share}
        logits = self.network(torch.cat([image, synthetic, u])).split([len(image), count, count])
        return {
            "supervised": self.loss(logits[0], label),
            "registration": term,
            "synthetic": self.loss(logits[1], moved),
            "atlas": self.atlas_loss(logits[2], moved, trusted),
        }

    def _register(self, moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The term; and without a gradient the displacements, and the similarity once moved."""
        size = moving.shape[2:]
        # half precision has no digits for coordinates: after voxel 64 comes 64.5 in bfloat16
        with torch.autocast(moving.device.type, enabled=False):
            moving, fixed = self._shrunk(moving), self._shrunk(fixed)
            displacement = self._displacement(moving, fixed)
            correlation = LocalNormalizedCrossCorrelationLoss(len(size), self.window, reduction="none")
            similarity = -correlation(self.warp(moving, displacement), fixed).mean(1, keepdim=True)
            term = 1.0 - similarity.mean() + self.smoothness * displacement_bending(displacement)
            with torch.no_grad():
                self.figures = {"similarity": similarity.mean(), "before": -correlation(moving, fixed).mean()}
                linear = "trilinear" if len(size) == 3 else "bilinear"
                displacement = F.interpolate(self.shrink * displacement, size, mode=linear, align_corners=False)
                similarity = F.interpolate(similarity, size)
        return term, displacement, similarity

    def _displacement(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """The second of what the registration answers."""
        try:
            answer = self.registration(moving, fixed)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as error:
            size, reason = list(moving.shape[2:]), " ".join(str(error).split())
            raise UserError(
                f"`registration` refuses patches of {size} voxels, {self.shrink} of the image's to one ({reason}). "
                "Give patch_size in multiples of what it needs, or its backbone fewer channels: each scale halves."
            ) from error
        shape = (len(moving), moving.dim() - 2, *moving.shape[2:])
        found = answer[1] if isinstance(answer, tuple) and len(answer) == 2 else None
        if found is None or found.shape != shape:
            got = type(answer).__name__ if found is None else tuple(found.shape)
            raise UserError(f"`registration` must answer with moved images and displacements {shape}, got {got}.")
        return found

    def _shrunk(self, images: Tensor) -> Tensor:
        size = images.shape[2:]
        if any(length % self.shrink for length in size):
            raise UserError(f"patch_size must be in multiples of `shrink`, {self.shrink} voxels, got {list(size)}.")
        return F.interpolate(images.float(), [length // self.shrink for length in size], mode="area")

    @torch.no_grad()
    def _synthesize(self, x: Tensor, y: Tensor, v: Tensor, there: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` and its label moved ``there``, the image with the appearance of ``v``, which is moved ``here``."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            sigmas = torch.full((len(x), x.dim() - 2), self.appearance_sigma)
            recolored = x + gaussian_blur(self.warp(v.float(), here) - x, sigmas)
            classes = F.one_hot(y.squeeze(1).long()).movedim(-1, 1).to(x)
            image, parts = self.warp(torch.cat([recolored, classes], 1), there).tensor_split([x.shape[1]], 1)
        return image, predicted_classes(parts, keepdim=True)


def _pairs(x: Tensor, y: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every labelled and every unlabelled case at least once, each pair with the next unlabelled case."""
    if x.shape[1:] != u.shape[1:]:
        raise UserError(
            "a registration needs patches of one shape: labelled patches are "
            f"{tuple(x.shape[1:])}, unlabelled ones {tuple(u.shape[1:])}."
        )
    number = torch.arange(max(len(x), len(u)), device=x.device)
    mine = number % len(x)
    return x[mine], y[mine], u[number % len(u)], u[(number + 1) % len(u)]
