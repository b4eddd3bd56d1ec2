"""Agreement of two views without negatives: features agree, vary over the batch, and do not repeat each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.loss import _Loss

__all__ = ["VICRegLoss", "vicreg_covariance", "vicreg_invariance", "vicreg_terms", "vicreg_variance"]


def vicreg_invariance(input: Tensor, target: Tensor) -> Tensor:
    r"""Mean squared difference of the two views' features.

    .. math:: s = \frac{1}{B F} \sum_i \|z_i - z'_i\|^2

    The paper divides by :math:`B` alone. Its code, with which its weights of 25, 25 and 1 were found, divides by the
    number of features too, as here.

    Args:
        input: features :math:`z` of one view.
        target: features :math:`z'` of the other one. Gradient flows into both.

    Shape:
        - input, target: :math:`(B, F)`
        - output: scalar

    Raises:
        ValueError: when the shapes do not agree.

    Reference:
        A. Bardes et al.: VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning,
        ICLR 2022, https://arxiv.org/abs/2105.04906, equation 5.
    """
    _check(input, least=1)
    if input.shape != target.shape:
        raise ValueError(f"`target` must have the input's shape {tuple(input.shape)}, got {tuple(target.shape)}.")
    return ((input.float() - target.float()) ** 2).mean()


def vicreg_variance(input: Tensor, gamma: float = 1.0, epsilon: float = 1e-4) -> Tensor:
    r"""By how much the deviation of the features over the batch falls short of a wanted one.

    .. math:: v = \frac{1}{F} \sum_f \max(0, \gamma - \sqrt{\mathrm{Var}(z_f) + \epsilon})

    The variance is the unbiased one.

    Args:
        input: features of one view.
        gamma: the wanted deviation.
        epsilon: keeps the gradient finite where a feature is constant, above 0.

    Shape:
        - input: :math:`(B, F)`, with B from 2
        - output: scalar

    Raises:
        ValueError: when the input is not a batch of two at least, or ``epsilon`` is not above 0.

    Reference:
        A. Bardes et al.: VICReg, ICLR 2022, https://arxiv.org/abs/2105.04906, equations 1 and 2.
    """
    _check(input)
    if not epsilon > 0:
        raise ValueError(f"`epsilon` must be above 0, got {epsilon}.")
    return F.relu(gamma - torch.sqrt(input.float().var(0) + epsilon)).mean()


def vicreg_covariance(input: Tensor) -> Tensor:
    r"""Sum of the squared covariances of different features, over the number of features.

    .. math:: c = \frac{1}{F} \sum_{f \neq g} C_{fg}^2, \quad
        C = \frac{1}{B - 1} \sum_i (z_i - \bar z)(z_i - \bar z)^T

    Args:
        input: features of one view.

    Shape:
        - input: :math:`(B, F)`, with B from 2
        - output: scalar

    Raises:
        ValueError: when the input is not a batch of two at least.

    Reference:
        A. Bardes et al.: VICReg, ICLR 2022, https://arxiv.org/abs/2105.04906, equations 3 and 4.
    """
    _check(input)
    with torch.autocast(input.device.type, enabled=False):
        centred = input.float() - input.float().mean(0)
        covariance = centred.T @ centred / (len(input) - 1)
    others = ~torch.eye(input.shape[1], dtype=torch.bool, device=input.device)
    return (covariance[others] ** 2).sum() / input.shape[1]


def vicreg_terms(input: Tensor, target: Tensor, gamma: float = 1.0, epsilon: float = 1e-4) -> dict[str, Tensor]:
    """The three terms by name, unweighted: ``invariance``, ``variance``, ``covariance``.

    The variance is the mean of the two views', the covariance their sum, as in the authors' code; the paper sums both.
    Their weights there are 25, 25 and 1.

    Args:
        input: features of one view, as they leave the expander; not normalised.
        target: features of the other one. Gradient flows into both.
        gamma: see :func:`vicreg_variance`.
        epsilon: see :func:`vicreg_variance`.

    Shape:
        - input, target: :math:`(B, F)`, with B from 2
        - output: scalars

    Raises:
        ValueError: when the shapes do not agree, or the batch holds a single case.

    Reference:
        A. Bardes et al.: VICReg, ICLR 2022, https://arxiv.org/abs/2105.04906, equation 6.
    """
    return {
        "invariance": vicreg_invariance(input, target),
        "variance": (vicreg_variance(input, gamma, epsilon) + vicreg_variance(target, gamma, epsilon)) / 2,
        "covariance": vicreg_covariance(input) + vicreg_covariance(target),
    }


class VICRegLoss(_Loss):
    """Module form of :func:`vicreg_terms`: its output is a dictionary.

    Args:
        gamma: see :func:`vicreg_variance`.
        epsilon: see :func:`vicreg_variance`.
    """

    def __init__(self, gamma: float = 1.0, epsilon: float = 1e-4) -> None:
        super().__init__()
        if not epsilon > 0:
            raise ValueError(f"`epsilon` must be above 0, got {epsilon}.")
        self.gamma, self.epsilon = gamma, epsilon

    def forward(self, input: Tensor, target: Tensor) -> dict[str, Tensor]:
        """See :func:`vicreg_terms`."""
        return vicreg_terms(input, target, self.gamma, self.epsilon)


def _check(input: Tensor, least: int = 2) -> None:
    if input.ndim != 2:
        raise ValueError(f"`input` must be (B, F), got {tuple(input.shape)}.")
    if len(input) < least:
        raise ValueError(
            f"`input` must hold {least} cases at least, got {len(input)}: one case has no variance; make the "
            "batch larger, or contrast with info_nce and a FeatureQueue."
        )
