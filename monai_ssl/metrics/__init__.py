"""Metrics: figures of predicted label maps, and the summary that a run keeps of them."""

from monai_ssl.metrics.segmentation import case_record, segmentation_scores, summarise

__all__ = ["case_record", "segmentation_scores", "summarise"]
