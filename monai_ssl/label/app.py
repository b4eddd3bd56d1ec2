"""The app that MONAI Label's server runs: pretraining, segmentation and detection that learn from all studies."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.scoring.dice import Dice
from monailabel.utils.async_tasks.utils import tasks

from monai_ssl import __version__
from monai_ssl.data.monai_label import study_path
from monai_ssl.label.app_folder import DETECTION, LABELS, PRETRAINING, SEGMENTATION
from monai_ssl.label.guard import check_image, check_names
from monai_ssl.label.label_check import unfit_values
from monai_ssl.label.strategies import DESCRIPTIONS, SuggestionStrategy
from monai_ssl.label.suggestions import State, Suggestions
from monai_ssl.label.train_task import SSLTrainTask
from monai_ssl.utils.config_values import check_values

__all__ = ["SSLApp", "is_training"]

logger = logging.getLogger(__name__)


def is_training() -> bool:
    """Whether this server has a training that runs or is about to."""
    return any(task["status"] in ("SUBMITTED", "RUNNING") for task in tasks("train"))


class SSLApp(MONAILabelApp):  # type: ignore[misc]
    """See :func:`~monai_ssl.label.server.serve`; MONAI Label makes one in the server and in every training.

    Args:
        app_dir: as :func:`~monai_ssl.label.app_folder.make_app` writes it.
        studies: folder or DICOMweb address.
        conf: of the server.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        model = Path(app_dir) / "model"
        # a client takes the first by itself
        self.bundles = {
            name: model / name for name in (SEGMENTATION, DETECTION, PRETRAINING) if (model / name).is_dir()
        }
        suggesting = [self.bundles[name] for name in (SEGMENTATION, DETECTION) if name in self.bundles]
        self.suggestions = Suggestions(
            Path(app_dir) / "suggestions", suggesting, model / PRETRAINING, self._state, is_training
        )
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name=f"monai_ssl {__version__}",
            description="Learns from the studies without a label, too, and says which one to label next",
            version=__version__,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """Segmentation and detection."""
        named = (name for name in (SEGMENTATION, DETECTION) if name in self.bundles)
        return {name: BundleInferTask(str(self.bundles[name]), self.conf, load_strict=True) for name in named}

    def init_trainers(self) -> dict[str, TrainTask]:
        """All bundles."""
        return {name: SSLTrainTask(str(path), self.conf, LABELS[name]) for name, path in self.bundles.items()}

    def init_strategies(self) -> dict[str, Strategy]:
        """The best one first, which a client takes by itself."""
        return {name: SuggestionStrategy(name, self.suggestions) for name in DESCRIPTIONS}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Dice of a model's proposals and the final labels."""
        return {"dice": Dice()}

    def on_init_complete(self) -> None:
        """Start to rank the studies; called in the server alone."""
        super().on_init_complete()
        self.suggestions.start()

    def infer(self, request: dict[str, Any], datastore: Any = None) -> Any:
        """Answer for a study or an uploaded file, and for no other file of this machine.

        Raises:
            UserError: when the request holds code or a path, or there is no such study.
        """
        check_values(request)
        check_names({name: value for name, value in request.items() if name not in ("image", "label")})
        sessions = self.sessions()
        uploads = None if sessions is None else sessions.store_path  # an empty dictionary while there is no session
        check_image(request.get("image"), self.datastore().list_images(), uploads)
        return super().infer(request, datastore)

    def batch_infer(self, request: dict[str, Any], datastore: Any = None) -> Any:
        """As :meth:`infer`, for many."""
        check_values(request)
        return super().batch_infer(request, datastore)

    def on_save_label(self, image_id: str, label_id: str) -> dict[str, str]:
        """Say at once, in the answer, where a label has classes that the model does not know; it is kept."""
        super().on_save_label(image_id, label_id)
        if SEGMENTATION not in self.bundles or type(self.datastore()) is not LocalDatastore:
            return {}
        label = self.datastore().get_label_uri(label_id, "final")
        if str(label).endswith(".json"):  # boxes
            return {}
        problem = unfit_values(label, self.bundles[SEGMENTATION])
        if problem:
            logger.warning(problem)
        return {"warning": problem} if problem else {}

    def bundle_path(self, model: str) -> str | None:
        """Folder of a model's bundle.

        Raises:
            HTTPException: when there is no such model; a training of it would end without a word otherwise.
        """
        if model is not None and model not in self._trainers and model not in self._infers:
            raise HTTPException(404, f"there is no model {model!r}; there are {', '.join(self._trainers)}.")
        path: str | None = super().bundle_path(model)
        return path

    def _state(self) -> State:
        store = self.datastore()
        unlabeled = set(store.get_unlabeled_images())
        paths = {name: str(study_path(store, name)) for name in sorted(store.list_images())}
        paths = {name: path for name, path in paths.items() if os.path.isfile(path)}
        return {
            "labeled": {name: path for name, path in paths.items() if name not in unlabeled},
            "unlabeled": {name: path for name, path in paths.items() if name in unlabeled},
        }
