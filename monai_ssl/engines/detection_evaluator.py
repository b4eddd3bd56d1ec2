"""The evaluator of a detector: a case has as many boxes as it has, so cases stay apart and are no batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.engines import Evaluator
from monai.engines.utils import IterationEvents
from torch import Tensor

from monai_ssl.networks.fit import evaluation

__all__ = ["DetectionEvaluator"]


class DetectionEvaluator(Evaluator):
    """Find the boxes of each case; ``engine.state.output`` is a list of what was found, ``state.batch`` of the cases.

    MONAI's ``SupervisedEvaluator`` takes a batch apart again, which fails for predictions of different lengths, and
    ends at a label map. Here a batch is the list of its cases, as ``collate_fn: monai.data.utils.no_collation`` leaves
    it, and postprocessing and handlers meet one case at a time.

    With several processes the first one's running statistics are everybody's before it starts, as each process has
    those of its own last batch, and the first one's network is what will be written.

    Args:
        device: where images and network are.
        val_data_loader: gives lists of cases.
        detector: of :func:`~monai_ssl.networks.sliding_detector`; the mode of its network is put back after each case.
        image_key: of the image, ``(C, H, W, D)``.
        box_key: where the boxes go, ``(N, 6)``, in voxel edge coordinates.
        label_key: where their classes go, ``(N,)``.
        score_key: where their scores go, ``(N,)``.
        postprocessing: done with each case and what was found, as one dictionary.
        val_handlers: see MONAI's ``Evaluator``.
        amp: whether in mixed precision.
        amp_kwargs: of ``torch.autocast``.
    """

    def __init__(
        self,
        device: torch.device | str,
        val_data_loader: Iterable[Sequence[Mapping[str, Any]]],
        detector: RetinaNetDetector,
        image_key: str = "image",
        box_key: str = "pred_box",
        label_key: str = "pred_label",
        score_key: str = "pred_score",
        postprocessing: Any = None,
        val_handlers: Sequence[Any] | None = None,
        amp: bool = False,
        amp_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            device,
            val_data_loader,
            postprocessing=postprocessing,
            val_handlers=val_handlers,
            amp=amp,
            amp_kwargs=amp_kwargs,
            decollate=False,
        )
        self.detector = detector
        self.image_key = image_key
        self.keys = (box_key, label_key, score_key)

    def run(self, global_epoch: int = 1) -> None:
        """See MONAI's ``Evaluator``."""
        if idist.get_world_size() > 1:
            for buffer in self.detector.network.buffers():
                torch.distributed.broadcast(buffer, 0)
        super().run(global_epoch)

    def _iteration(self, engine: Engine, batchdata: Any) -> Any:
        # postprocessing writes into the cases, and these may be those that the data set keeps
        engine.state.batch, engine.state.output = [dict(case) for case in batchdata], []
        for case in engine.state.batch:
            engine.state.output.append(self._boxes(torch.as_tensor(case[self.image_key]).as_subclass(Tensor)))
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    @torch.no_grad()
    def _boxes(self, image: Tensor) -> dict[str, Tensor]:
        detector, network = self.detector, self.detector.network
        inferer: Any = detector.inferer
        fits = all(side <= window for side, window in zip(image.shape[1:], inferer.window, strict=True))
        with evaluation(network), torch.autocast(self.state.device.type, enabled=self.amp, **self.amp_kwargs):
            (found,) = detector(image[None].to(self.state.device), use_inferer=not fits)
        own = (detector.target_box_key, detector.target_label_key, detector.pred_score_key)
        return {key: found[name].cpu() for key, name in zip(self.keys, own, strict=True)}
