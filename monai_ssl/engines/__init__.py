"""The trainer, and what brings a batch to it."""

from monai_ssl.engines.prepare_batch import prepare_streams
from monai_ssl.engines.trainer import SSLTrainer

__all__ = ["SSLTrainer", "prepare_streams"]
