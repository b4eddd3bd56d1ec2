"""Contrastive losses: views of one scan agree and those of others differ, in a batch or against a queue of keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.loss import _Loss

__all__ = ["InfoNCELoss", "NTXentLoss", "info_nce", "nt_xent"]

LEAST = torch.finfo(torch.float32).min
"""Logit of what is left out: unlike minus infinity its gradient is 0 where all of a row is left out."""


def nt_xent(
    input: Tensor, target: Tensor | None = None, temperature: float = 0.5, groups: Tensor | None = None
) -> Tensor:
    r"""Normalised temperature-scaled cross-entropy over all views of a batch, each an anchor in turn.

    .. math:: \ell_{i,j} = -\log \frac{e^{s_{ij} / \tau}}{e^{s_{ij} / \tau} + \sum_{k \in N(i)} e^{s_{ik} / \tau}}

    Here :math:`s` is the cosine similarity, :math:`j` another view of the anchor's case, and :math:`N(i)` are all views
    of other cases. The loss is the mean over all ordered pairs :math:`(i, j)`: the VB anchors, each with its V - 1
    positives. An anchor is never compared with itself. For two views this is the paper's equation; with more, a
    positive is set against the negatives alone and not against the other positives, so that views that agree perfectly
    are not pushed apart. Written as :math:`\mathrm{softplus}(\log \sum_k e^{s_{ik} / \tau} - s_{ij} / \tau)` it is
    finite at any temperature.

    Args:
        input: features of the views, as they leave the head; they are normalised here. Gradient flows into all views.
        target: features of the second view, where ``input`` holds the first one alone.
        temperature: :math:`\tau`, above 0; the smaller, the more the hardest negatives count.
        groups: scan of each case. Cases of one scan are no negatives of each other; they are no positives either.

    Shape:
        - input: :math:`(B, V, F)`, or :math:`(B, F)` with target
        - target: :math:`(B, F)`
        - groups: :math:`(B,)`, whole numbers
        - output: scalar

    Raises:
        ValueError: when the shapes do not agree, the temperature is not above 0, or there is no negative.

    Reference:
        T. Chen et al.: A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020,
        https://arxiv.org/abs/2002.05709, equation 1.
    """
    _check_temperature(temperature)
    if target is None:
        if input.ndim != 3 or input.shape[1] < 2:
            raise ValueError(f"`input` must be (B, V, F) with two views or more, got {tuple(input.shape)}.")
        views = input.float()
    else:
        _check_pair(input, target)
        views = torch.stack([input.float(), target.float()], 1)
    B, V, _ = views.shape
    if groups is not None and groups.shape != (B,):
        raise ValueError(f"`groups` must be one number a case, ({B},), got {tuple(groups.shape)}.")
    scan = torch.arange(B, device=views.device) if groups is None else groups.to(views.device)
    same = scan.repeat_interleave(V)
    negative = same[:, None] != same
    if B < 2 or (groups is not None and not bool(negative.any())):
        raise ValueError(
            f"A batch of {B} from one scan holds no negative: make it two scans at least, or contrast with "
            "info_nce and a FeatureQueue."
        )
    with torch.autocast(views.device.type, enabled=False):
        z = F.normalize(views, dim=-1).flatten(0, 1)
        logits = z @ z.T / temperature
    against = logits.masked_fill(~negative, LEAST).logsumexp(1)
    case = torch.arange(B * V, device=views.device)
    positive = (case[:, None] // V == case // V).fill_diagonal_(False)
    agree = logits[positive].view(B * V, V - 1)
    return F.softplus(against[:, None] - agree).mean()


def info_nce(
    input: Tensor, target: Tensor, negatives: Tensor, allowed: Tensor | None = None, temperature: float = 0.07
) -> Tensor:
    r"""Cross-entropy that finds each query's own key among the keys of a queue.

    .. math:: L = -\frac{1}{B} \sum_i \log \frac{e^{q_i \cdot k_i / \tau}}
        {e^{q_i \cdot k_i / \tau} + \sum_n a_{in} e^{q_i \cdot k_n / \tau}}

    The negatives come from the queue alone, so that a batch of one will do. While the queue is empty the loss and its
    gradient are 0. :class:`monai_ssl.networks.FeatureQueue` hands out ``negatives`` and ``allowed``; the keys are put
    into it after the loss.

    Args:
        input: queries :math:`q`: features of one view from the student; normalised here.
        target: keys :math:`k_i`: features of another view from the momentum encoder; normalised here. No gradient
            flows into them, nor into the negatives.
        negatives: keys of earlier batches :math:`k_n`; normalised here.
        allowed: whether a key counts for a query, :math:`a`: not where the slot is unused or the scan is the query's.
        temperature: :math:`\tau`, above 0. The default is the paper's; 0.2 is that of its second version.

    Shape:
        - input, target: :math:`(B, F)`
        - negatives: :math:`(K, F)`
        - allowed: :math:`(B, K)`, bool
        - output: scalar

    Raises:
        ValueError: when the shapes do not agree, or the temperature is not above 0.

    Reference:
        K. He et al.: Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020,
        https://arxiv.org/abs/1911.05722, equation 1. It does not leave keys of the same scan out, of which a queue of
        volumes from few scans holds many.
    """
    _check_temperature(temperature)
    _check_pair(input, target)
    B, features = input.shape
    if negatives.ndim != 2 or negatives.shape[1] != features:
        raise ValueError(f"`negatives` must be (K, {features}), got {tuple(negatives.shape)}.")
    if allowed is not None and allowed.shape != (B, len(negatives)):
        raise ValueError(f"`allowed` must be ({B}, {len(negatives)}), got {tuple(allowed.shape)}.")
    with torch.autocast(input.device.type, enabled=False):
        query = F.normalize(input.float(), dim=-1)
        agree = (query * F.normalize(target.detach().float(), dim=-1)).sum(-1) / temperature
        against = query @ F.normalize(negatives.detach().float(), dim=-1).T / temperature
    if allowed is not None:
        against = against.masked_fill(~allowed, LEAST)
    return F.softplus(against.logsumexp(1) - agree).mean()


class NTXentLoss(_Loss):
    """Module form of :func:`nt_xent`.

    Args:
        temperature: see :func:`nt_xent`.
    """

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        _check_temperature(temperature)
        self.temperature = temperature

    def forward(self, input: Tensor, target: Tensor | None = None, groups: Tensor | None = None) -> Tensor:
        """See :func:`nt_xent`."""
        return nt_xent(input, target, self.temperature, groups)


class InfoNCELoss(_Loss):
    """Module form of :func:`info_nce`.

    Args:
        temperature: see :func:`info_nce`.
    """

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        _check_temperature(temperature)
        self.temperature = temperature

    def forward(self, input: Tensor, target: Tensor, negatives: Tensor, allowed: Tensor | None = None) -> Tensor:
        """See :func:`info_nce`."""
        return info_nce(input, target, negatives, allowed, self.temperature)


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")


def _check_pair(input: Tensor, target: Tensor) -> None:
    if input.ndim != 2 or input.shape != target.shape:
        raise ValueError(
            f"`input` and `target` must be (B, F) alike, got {tuple(input.shape)} and {tuple(target.shape)}."
        )
