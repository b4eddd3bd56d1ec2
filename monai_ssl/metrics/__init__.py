"""Metrics: figures of predicted label maps and of embeddings, probes of frozen features."""

from monai_ssl.metrics.calibration import expected_calibration_error, mean_confidence, reliability_counts
from monai_ssl.metrics.embeddings import effective_rank, feature_spread, majority_share, nearest_neighbour_accuracy
from monai_ssl.metrics.probes import intensity_statistics, linear_probe, neighbour_probe
from monai_ssl.metrics.pseudo_labels import (
    agreement_counts,
    foreground_agreement,
    kept_label_counts,
    kept_share,
    precision_and_recall,
)
from monai_ssl.metrics.segmentation import case_record, segmentation_scores, summarise

__all__ = [
    "agreement_counts",
    "case_record",
    "effective_rank",
    "expected_calibration_error",
    "feature_spread",
    "foreground_agreement",
    "intensity_statistics",
    "kept_label_counts",
    "kept_share",
    "linear_probe",
    "majority_share",
    "mean_confidence",
    "nearest_neighbour_accuracy",
    "neighbour_probe",
    "precision_and_recall",
    "reliability_counts",
    "segmentation_scores",
    "summarise",
]
