"""Losses: one file each, a pure function and its module."""

from monai_ssl.losses.consistency import SoftmaxConsistencyLoss, softmax_consistency
from monai_ssl.losses.entropy import predictive_entropy

__all__ = ["SoftmaxConsistencyLoss", "predictive_entropy", "softmax_consistency"]
