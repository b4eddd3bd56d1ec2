"""Bending energy of a displacement field: what a registration pays for every deviation from an affine map."""

from __future__ import annotations

from torch import Tensor
from torch.nn.modules.loss import _Loss

__all__ = ["DisplacementBendingLoss", "displacement_bending"]


def displacement_bending(input: Tensor) -> Tensor:
    r"""Mean squared second derivative of a displacement field, mixed derivatives included.

    .. math:: L = \frac{1}{A} \sum_c \mathrm{mean}_v \sum_{a, b} \left(
        \frac{\partial^2 d_c}{\partial v_a\, \partial v_b} \right)^2

    over the components :math:`c` and the pairs of axes :math:`a, b`, by central differences within three voxels, at
    all voxels but the outermost. Translation, rotation, scaling and shear cost nothing.

    Args:
        input: displacements :math:`d` in voxels, a component for each of the A axes.

    Shape:
        - input: :math:`(B, A, H, W[, D])`, 3 voxels or more along every axis
        - output: scalar

    Raises:
        ValueError: when the shape is another one.

    Reference:
        D. Rueckert et al.: Nonrigid Registration Using Free-Form Deformations: Application to Breast MR Images, IEEE
        Transactions on Medical Imaging 18, 1999, https://doi.org/10.1109/42.796284, equation 9. The numbers are those
        of MONAI's ``BendingEnergyLoss``, which indexes in a way that torch has announced to read differently.
    """
    axes = input.dim() - 2
    if axes not in (2, 3) or input.shape[1] != axes or min(input.shape[2:]) < 3:
        expected = "(B, A, ...) with A of 2 or 3 axes, each of 3 voxels or more"
        raise ValueError(f"`input` must be {expected}, got {tuple(input.shape)}.")
    field = input.float()
    energy = field.new_zeros(())
    for a in range(2, axes + 2):
        straight = [other for other in range(2, axes + 2) if other != a]
        energy = energy + _inner(field.diff(2, a), straight) ** 2
        for b in range(a + 1, axes + 2):
            rest = [other for other in straight if other != b]
            energy = energy + 2.0 * _inner(_central(_central(field, a), b), rest) ** 2
    return energy.mean()


class DisplacementBendingLoss(_Loss):
    """Module form of :func:`displacement_bending`."""

    def forward(self, input: Tensor) -> Tensor:
        """See :func:`displacement_bending`."""
        return displacement_bending(input)


def _central(field: Tensor, axis: int) -> Tensor:
    length = field.shape[axis]
    return (field.narrow(axis, 2, length - 2) - field.narrow(axis, 0, length - 2)) / 2.0


def _inner(field: Tensor, axes: list[int]) -> Tensor:
    for axis in axes:
        field = field.narrow(axis, 1, field.shape[axis] - 2)
    return field
