"""What every random transform here shares: parameters drawn a case, and one op that serves a case or a whole batch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable, RandomizableTransform
from monai.utils import TransformBackends
from torch import Tensor

__all__ = [
    "Params",
    "RandBatchTransform",
    "RandBatchTransformd",
    "checked_range",
    "least_and_greatest",
    "stacked",
]

Params = Mapping[str, Any]
"""What was drawn for one case: numbers and NumPy arrays by name."""

Extras = dict[str, Tensor]


class RandBatchTransform(RandomizableTransform):
    """A random transform that draws parameters for a case and applies them to any number of cases at once.

    A subclass says in :meth:`draw` what is random, in :meth:`apply` what becomes of a batch, and in :meth:`skipped`
    what its extra outputs (a mask, a class) are for a case that is left as it is. The same instance works in a loader,
    on one case, and on a batch that lies on the device already, by :meth:`batch`.

    Args:
        prob: chance that a case is transformed, in [0, 1]; at 0 it comes back as it is.

    Attributes:
        extras: extra outputs of the last call, by name, without the batch's axis after a call on one case.

    Shape:
        - Input: ``(C, H, W[, D])``, or ``(B, C, H, W[, D])`` for :meth:`batch`
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, prob: float = 1.0) -> None:
        if not 0.0 <= prob <= 1.0:
            raise ValueError(f"`prob` must be in [0, 1], got {prob}.")
        RandomizableTransform.__init__(self, prob)
        self.extras: Extras = {}
        self._params: list[Params] = []
        self._acts: list[bool] = []

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the parameters of one case from ``self.R``.

        Args:
            shape: of the case, ``(C, H, W[, D])``.
        """
        raise NotImplementedError

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, Extras]:
        """Transform a batch; never in place.

        Args:
            images: ``(B, C, H, W[, D])``, without metadata.
            params: what was drawn for each case.
        """
        raise NotImplementedError

    def skipped(self, images: Tensor) -> tuple[Tensor, Extras]:
        """What comes out for a batch that is not transformed: the images and no extra output, unless overridden."""
        return images, {}

    def randomize(self, data: Sequence[int], count: int = 1) -> None:
        """Draw for some cases: for each whether it is transformed, and its parameters even where it is not.

        Args:
            data: shape of a case, ``(C, H, W[, D])``.
            count: number of cases.
        """
        self._acts, self._params = [], []
        for _ in range(count):
            super().randomize(None)
            self._acts.append(self._do_transform)
            self._params.append(self.draw(data))

    def __call__(self, img: Tensor | np.ndarray, randomize: bool = True) -> Tensor:
        """Transform one case.

        Args:
            img: ``(C, H, W[, D])``.
            randomize: draw anew; else what was drawn last is applied again.
        """
        if randomize:
            self.randomize(img.shape)
        out, extras = self._transform(torch.as_tensor(img).as_subclass(Tensor)[None])
        self.extras = {name: extra[0] for name, extra in extras.items()}
        if not self._acts[0] and out.shape[1:] == img.shape:
            return torch.as_tensor(img)
        if isinstance(img, MetaTensor) and out[0].ndim == img.ndim:  # tiles and views have no affine of their own
            return MetaTensor(out[0]).copy_meta_from(img)
        return out[0]

    def batch(self, images: Tensor, randomize: bool = True) -> Tensor:
        """Transform a batch, each case with parameters of its own.

        Args:
            images: ``(B, C, H, W[, D])``.
            randomize: draw anew; else what was drawn last is applied again.
        """
        if randomize:
            self.randomize(images.shape[1:], len(images))
        out, self.extras = self._transform(images.as_subclass(Tensor))
        return out

    def _transform(self, images: Tensor) -> tuple[Tensor, Extras]:
        if not any(self._acts):
            return self.skipped(images)
        if all(self._acts):
            return self.apply(images, self._params)
        chosen = torch.tensor(self._acts).nonzero()[:, 0].to(images.device)
        # the whole batch, since a case may need another one that is itself left as it is
        changed, changed_extras = self.apply(images, self._params)
        out, extras = self.skipped(images)
        merged = {name: extra.index_copy(0, chosen, changed_extras[name][chosen]) for name, extra in extras.items()}
        return out.index_copy(0, chosen, changed[chosen]), merged


class RandBatchTransformd(MapTransform, Randomizable):
    """Dictionary twin of a :class:`RandBatchTransform`: one draw for all keys, the array object's own random state.

    Args:
        keys: images that are transformed alike.
        transform: the array object.
        extra_keys: under which names its extra outputs go into the dictionary.
        allow_missing_keys: leave out keys that are not there.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        keys: KeysCollection,
        transform: RandBatchTransform,
        extra_keys: Mapping[str, Hashable] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform = transform
        self.extra_keys = dict(extra_keys or {})

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandBatchTransformd:
        """Seed the array object, which draws."""
        self.transform.set_random_state(seed, state)
        self.R = self.transform.R
        return self

    def randomize(self, data: Sequence[int], count: int = 1) -> None:
        """Draw; see :meth:`RandBatchTransform.randomize`."""
        self.transform.randomize(data, count)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform one case."""
        return self._call(data, batched=False)

    def batch(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform a batch: every entry has the cases along its first axis."""
        return self._call(data, batched=True)

    def _call(self, data: Mapping[Hashable, Any], batched: bool) -> dict[Hashable, Any]:
        out: dict[Hashable, Any] = dict(data)
        extras: Extras = {}
        act = self.transform.batch if batched else self.transform.__call__
        for number, key in enumerate(self.key_iterator(out)):
            if number == 0:
                shape = out[key].shape
                self.randomize(shape[1:] if batched else shape, shape[0] if batched else 1)
            out[key] = act(out[key], randomize=False)
            extras = extras or self.transform.extras
        out.update({self.extra_keys[name]: extra for name, extra in extras.items() if name in self.extra_keys})
        return out


def stacked(params: Sequence[Params], name: str, device: torch.device | str = "cpu") -> Tensor:
    """A drawn parameter of all cases as one tensor, the cases along its first axis."""
    return torch.as_tensor(np.stack([np.asarray(one[name]) for one in params]), device=device)


def checked_range(range: Sequence[float] | None) -> Sequence[float] | None:
    """A range of intensities as it was given; None stands for each volume's own.

    Raises:
        ValueError: when it is not a low and a higher number.
    """
    if range is not None and (len(range) != 2 or range[0] >= range[1]):
        raise ValueError(f"`range` must be a low and a higher number, or None, got {range}.")
    return range


def least_and_greatest(images: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest value of each volume and channel.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - Output: ``(B, C, 1, 1[, 1])`` each
    """
    axes = tuple(range(2, images.ndim))
    return images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
