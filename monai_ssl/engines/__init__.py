"""The trainer, and what brings a batch to it."""

from monai_ssl.engines.prepare_batch import PrepareStreams, prepare_streams
from monai_ssl.engines.trainer import SSLTrainer

__all__ = ["PrepareStreams", "SSLTrainer", "prepare_streams"]
