"""Names of the entries of a batch, a data list and a run's folder, spelled once."""

from __future__ import annotations

from monai.utils import StrEnum

__all__ = ["BatchKeys", "ListParts", "RunFiles"]


class BatchKeys(StrEnum):
    """Entries of a batch: ``{"labeled": {"image", "label"}, "unlabeled": {"image"}}``."""

    LABELED = "labeled"
    UNLABELED = "unlabeled"
    IMAGE = "image"
    LABEL = "label"


class ListParts(StrEnum):
    """Parts of a data list in Decathlon form; ``unlabeled`` is ours."""

    TRAINING = "training"
    UNLABELED = "unlabeled"
    VALIDATION = "validation"
    TEST = "test"


class RunFiles(StrEnum):
    """Files that a run leaves in its ``output_dir``."""

    RESUME = "resume.pt"
    MODEL = "model.pt"
    SAFE_MODEL = "model.safetensors"
    BEST = "best.pt"
    PRETEXT = "pretext.pt"
    TRANSFER = "transfer.json"
    SEEN_SCANS = "seen_scans.json"
    PREPROCESSING = "preprocessing.json"
    MANIFEST = "run_manifest.json"
    LOG = "log.txt"
    STEPS = "steps.csv"
    PROGRESS = "progress.png"
    TENSORBOARD = "tensorboard"
    VALIDATION_METRICS = "validation_metrics.json"
    METRICS = "metrics.json"
    OVERLAY = "overlay.png"
    FREE_RESPONSE = "froc.png"
    AUDIT = "audit.csv"
    RELIABILITY = "reliability.png"
    PSEUDO_LABELS = "pseudo_labels"
    EMBEDDINGS = "embeddings.csv"
    PRETEXT_PICTURE = "pretext.png"
    LOCK = ".lock"
