"""Metrics: figures of predicted label maps and of embeddings, probes of frozen features."""

from monai_ssl.metrics.embeddings import effective_rank, feature_spread, majority_share, nearest_neighbour_accuracy
from monai_ssl.metrics.probes import intensity_statistics, linear_probe, neighbour_probe
from monai_ssl.metrics.segmentation import case_record, segmentation_scores, summarise

__all__ = [
    "case_record",
    "effective_rank",
    "feature_spread",
    "intensity_statistics",
    "linear_probe",
    "majority_share",
    "nearest_neighbour_accuracy",
    "neighbour_probe",
    "segmentation_scores",
    "summarise",
]
