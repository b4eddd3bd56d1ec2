"""Losses: one file each, a pure function and its module."""

from monai_ssl.losses.anchors import box_regression, mean_over_positives, one_hot_targets
from monai_ssl.losses.blending import BlendedConsistencyLoss, blended_consistency, blended_target, tempered_frequencies
from monai_ssl.losses.confidence import confidence_mask, entropy_mask, kept_fraction, sharpen
from monai_ssl.losses.consistency import SoftmaxConsistencyLoss, softmax_consistency
from monai_ssl.losses.contrastive import InfoNCELoss, NTXentLoss, info_nce, nt_xent
from monai_ssl.losses.entropy import predictive_entropy
from monai_ssl.losses.pseudo_label import MaskedDiceCELoss, masked_cross_entropy, masked_dice, masked_dice_ce
from monai_ssl.losses.pyramid import RectifiedPyramidLoss, rectified_pyramid
from monai_ssl.losses.reconstruction import MaskedReconstructionLoss, masked_reconstruction
from monai_ssl.losses.registration import DisplacementBendingLoss, displacement_bending
from monai_ssl.losses.soft_focal import SoftTargetFocalLoss, soft_target_focal_loss
from monai_ssl.losses.triplet import FeatureTripletLoss, feature_triplet
from monai_ssl.losses.vicreg import VICRegLoss, vicreg_covariance, vicreg_invariance, vicreg_terms, vicreg_variance

__all__ = [
    "BlendedConsistencyLoss",
    "DisplacementBendingLoss",
    "FeatureTripletLoss",
    "InfoNCELoss",
    "MaskedDiceCELoss",
    "MaskedReconstructionLoss",
    "NTXentLoss",
    "RectifiedPyramidLoss",
    "SoftTargetFocalLoss",
    "SoftmaxConsistencyLoss",
    "VICRegLoss",
    "blended_consistency",
    "blended_target",
    "box_regression",
    "confidence_mask",
    "displacement_bending",
    "entropy_mask",
    "feature_triplet",
    "info_nce",
    "kept_fraction",
    "masked_cross_entropy",
    "masked_dice",
    "masked_dice_ce",
    "masked_reconstruction",
    "mean_over_positives",
    "nt_xent",
    "one_hot_targets",
    "predictive_entropy",
    "rectified_pyramid",
    "sharpen",
    "soft_target_focal_loss",
    "softmax_consistency",
    "tempered_frequencies",
    "vicreg_covariance",
    "vicreg_invariance",
    "vicreg_terms",
    "vicreg_variance",
]
