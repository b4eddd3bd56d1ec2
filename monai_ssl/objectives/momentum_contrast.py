"""A view of a scan finds another one, encoded by a slow copy of the network, among the views of earlier batches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from monai_ssl.losses.contrastive import info_nce
from monai_ssl.networks.feature_queue import FeatureQueue
from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.networks.teacher import copy_student, make_teacher, update_average
from monai_ssl.objectives.base import Task

__all__ = ["MomentumContrast"]


class MomentumContrast(Task):
    r"""Momentum contrast: the negatives come from a queue, so that a batch of one or two scans is enough.

    .. code-block:: text

        f encoder, h head; f', h' their moving averages, the teacher; x_1 .. x_V views of a scan
        q_i = h(f(x_i)),  k_j = h'(f'(x_j))                                no gradient into k
        L_contrast = mean over i != j of InfoNCE(q_i, k_j, queue without the scan's own keys)
        after the loss, while training: queue <- all k_j, the oldest keys leave
        after the step: teacher <- decay teacher + (1 - decay) network

    The teacher is in evaluation mode: its keys are made without dropout, and batch norm takes averaged statistics, so
    that a key tells nothing of its batch, which the paper shuffles batches over GPUs for. Beside the paper: every view
    is both query and key (as in the authors' symmetric variant), and the keys of a query's own scan are no negatives.
    The decay is the same from the first step on and near to 1. With a teacher that moves fast (0.99, or an average that
    starts as a plain mean as in :class:`~monai_ssl.objectives.MeanTeacher`) a key is told from those in the queue by
    its age, and the network learns that in place of the scan: a high ``contrast_accuracy`` from the start is its sign.

    While the queue holds no other scan, as at the first step, loss and gradient are 0. Logged is
    ``contrast_accuracy``, the share of queries to which their key is nearer than every negative; a query without a
    negative counts as missed. In distributed training the keys of all processes go into the queue; they must have
    batches of one size.

    The batch needs the entry ``scan``: the scan of each case, the same number in every epoch, such as its place in the
    data list. The updates come from :class:`~monai_ssl.handlers.TeacherUpdate`.

    Args:
        image: entry with the views, ``(B, V, C, H, W, D)``, or with the V views of a case one behind the other as
            ``(B * V, C, H, W, D)``.
        views: number V of views.
        keys: entry with the images for the teacher, shaped like those of ``image``: with masked images for the network
            and clean ones here one view is enough, and is compared with itself. By default ``image``.
        scan: entry with the scan of each case, int64 ``(B,)``.
        features: length of the head's vector; that of :class:`~monai_ssl.networks.ProjectionHead` by default.
        queue: number of keys that are kept. The paper has 65536 keys and a million images; with some hundred scans and
            eight views a step, 1024 are those of the last 128 steps.
        temperature: of the softmax; 0.07 in the paper, 0.2 in its second version.
        decay: of the moving average, in [0, 1); 0.999 to 0.9999.
        head: projection head; the second version's has a hidden layer.

    Raises:
        ValueError: when ``views`` is below 1, or 1 without ``keys``, or ``decay``, ``queue`` or ``features`` is out of
            range.

    Reference:
        K. He et al.: Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020,
        https://arxiv.org/abs/1911.05722, algorithm 1. X. Chen et al.: Improved Baselines with Momentum Contrastive
        Learning, 2020, https://arxiv.org/abs/2003.04297 (the second version).
    """

    teacher: PretextNetwork

    def __init__(
        self,
        image: str = "image",
        views: int = 2,
        keys: str | None = None,
        scan: str = "scan",
        features: int = 512,
        queue: int = 1024,
        temperature: float = 0.2,
        decay: float = 0.999,
        head: str = "projection",
    ) -> None:
        super().__init__(image, (head,))
        self.keys = image if keys is None else keys
        if views < 1 or (views == 1 and self.keys == image):
            raise ValueError(f"`views` must be 2 or more, or 1 with other images as `keys`, got {views}.")
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"`decay` must be in [0, 1), got {decay}.")
        self.pairs = [(i, j) for i in range(views) for j in range(views) if i != j or views == 1]
        self.views = views
        self.scan = scan
        self.temperature = temperature
        self.decay = decay
        self.queue = FeatureQueue(queue, features)

    def make_teacher(self, network: PretextNetwork) -> None:
        """Copy the network with this head alone, and move the queue to where it is."""
        self.teacher = make_teacher(self._student(network))  # type: ignore[assignment]
        self.queue.to(next(network.parameters()).device)

    def reset_teacher(self, network: PretextNetwork) -> None:
        """Copy the network into the teacher."""
        copy_student(self.teacher, self._student(network))

    def update_teacher(self, network: PretextNetwork, step: int) -> None:
        """Average the network into the teacher."""
        update_average(self.teacher, self._student(network), self.decay)

    def _student(self, network: PretextNetwork) -> PretextNetwork:
        return PretextNetwork(network.network, {name: network.heads[name] for name in self.heads})

    def train(self, mode: bool = True) -> MomentumContrast:
        """Switch the mode; the teacher stays in evaluation mode."""
        super().train(mode)
        if hasattr(self, "teacher"):
            self.teacher.eval()
        return self

    def forward(self, outputs: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The term ``contrast``."""
        scans = self.entry(entries, self.scan)
        queries = self._by_case(outputs[self.heads[0]], scans)
        keys = self._by_case(self._encoded(self.entry(entries, self.keys)), scans)
        negatives, allowed = self.queue.negatives(scans)
        query = torch.cat([queries[:, i] for i, _ in self.pairs])
        key = torch.cat([keys[:, j] for _, j in self.pairs])
        allowed = allowed.repeat(len(self.pairs), 1)
        loss = info_nce(query, key, negatives, allowed, self.temperature)
        self.figures = {"contrast_accuracy": _nearest_is_the_key(query.detach(), key, negatives, allowed)}
        if self.training:
            all_scans = _of_all_processes(scans.repeat_interleave(self.views))
            self.queue.enqueue(_of_all_processes(keys.flatten(0, 1)), all_scans)
        return {"contrast": loss}

    @torch.no_grad()
    def _encoded(self, images: Tensor) -> Tensor:
        cases = images.flatten(0, 1) if images.ndim == 6 else images
        return self.teacher(cases, self.heads)[self.heads[0]]  # type: ignore[no-any-return]

    def _by_case(self, features: Tensor, scans: Tensor) -> Tensor:
        if scans.ndim != 1 or len(features) != self.views * len(scans):
            raise ValueError(
                f"`views` {self.views} and the entry {self.scan!r} {tuple(scans.shape)} do not fit: a batch has "
                f"{len(features)} images, and must have that many views of each of the scans (B,)."
            )
        return features.unflatten(0, (len(scans), self.views))


def _nearest_is_the_key(query: Tensor, key: Tensor, negatives: Tensor, allowed: Tensor) -> Tensor:
    query, key = F.normalize(query.float(), dim=1), F.normalize(key.float(), dim=1)
    against = (query @ negatives.T).masked_fill(~allowed, -torch.inf).amax(1)
    nearest = ((query * key).sum(1) > against) & allowed.any(1)
    return nearest.float().mean()


def _of_all_processes(values: Tensor) -> Tensor:
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, values.contiguous())
    return torch.cat(parts)
