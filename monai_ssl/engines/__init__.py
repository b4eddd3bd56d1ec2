"""The trainer and what brings a batch to it, embeddings of scans, and the assessment of frozen features."""

from monai_ssl.engines.assessment import ClassAssessment, MaskAssessment
from monai_ssl.engines.assessment_files import open_assessment, write_assessment
from monai_ssl.engines.detection_evaluator import DetectionEvaluator
from monai_ssl.engines.embedding import describe_scans, write_embeddings
from monai_ssl.engines.prepare_batch import PrepareStreams, prepare_streams
from monai_ssl.engines.trainer import SSLTrainer

__all__ = [
    "ClassAssessment",
    "DetectionEvaluator",
    "MaskAssessment",
    "PrepareStreams",
    "SSLTrainer",
    "describe_scans",
    "open_assessment",
    "prepare_streams",
    "write_assessment",
    "write_embeddings",
]
