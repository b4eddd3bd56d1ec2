"""ignite handlers: what evolves, guards, records and shows while an engine runs."""

from monai_ssl.handlers.box_writer import BoxWriter
from monai_ssl.handlers.checkpoint import CheckpointWriter, ModelWriter, Resume
from monai_ssl.handlers.detection_pictures import BoxOverlay
from monai_ssl.handlers.detection_scores import DetectionReport
from monai_ssl.handlers.embedding_watch import EmbeddingWatch
from monai_ssl.handlers.free_response_picture import FreeResponsePicture
from monai_ssl.handlers.guards import NonFiniteGuard
from monai_ssl.handlers.pictures import Overlay
from monai_ssl.handlers.pretext_pictures import PretextPictures
from monai_ssl.handlers.progress_bar import StepProgressBar
from monai_ssl.handlers.progress_picture import ProgressPicture
from monai_ssl.handlers.pseudo_label_audit import PseudoLabelAudit
from monai_ssl.handlers.pseudo_label_rounds import PseudoLabelRounds, round_starts
from monai_ssl.handlers.reliability_picture import ReliabilityPicture
from monai_ssl.handlers.schedules import ScheduledLearningRate, ScheduledWeights
from monai_ssl.handlers.scores import SegmentationReport
from monai_ssl.handlers.selection import ModelSelection
from monai_ssl.handlers.step_log import StepLog
from monai_ssl.handlers.stop import StopOnSignal
from monai_ssl.handlers.teacher import TeacherUpdate
from monai_ssl.handlers.transfer_schedule import TransferSchedule
from monai_ssl.handlers.validation import StepValidation
from monai_ssl.handlers.weights_report import WeightsReport

__all__ = [
    "BoxOverlay",
    "BoxWriter",
    "CheckpointWriter",
    "DetectionReport",
    "EmbeddingWatch",
    "FreeResponsePicture",
    "ModelSelection",
    "ModelWriter",
    "NonFiniteGuard",
    "Overlay",
    "PretextPictures",
    "ProgressPicture",
    "PseudoLabelAudit",
    "PseudoLabelRounds",
    "ReliabilityPicture",
    "Resume",
    "ScheduledLearningRate",
    "ScheduledWeights",
    "SegmentationReport",
    "StepLog",
    "StepProgressBar",
    "StepValidation",
    "StopOnSignal",
    "TeacherUpdate",
    "TransferSchedule",
    "WeightsReport",
    "round_starts",
]
