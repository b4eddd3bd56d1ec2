"""Losses: one file each, a pure function and its module."""

from monai_ssl.losses.consistency import SoftmaxConsistencyLoss, softmax_consistency
from monai_ssl.losses.contrastive import InfoNCELoss, NTXentLoss, info_nce, nt_xent
from monai_ssl.losses.entropy import predictive_entropy
from monai_ssl.losses.reconstruction import MaskedReconstructionLoss, masked_reconstruction
from monai_ssl.losses.triplet import FeatureTripletLoss, feature_triplet
from monai_ssl.losses.vicreg import VICRegLoss, vicreg_covariance, vicreg_invariance, vicreg_terms, vicreg_variance

__all__ = [
    "FeatureTripletLoss",
    "InfoNCELoss",
    "MaskedReconstructionLoss",
    "NTXentLoss",
    "SoftmaxConsistencyLoss",
    "VICRegLoss",
    "feature_triplet",
    "info_nce",
    "masked_reconstruction",
    "nt_xent",
    "predictive_entropy",
    "softmax_consistency",
    "vicreg_covariance",
    "vicreg_invariance",
    "vicreg_terms",
    "vicreg_variance",
]
