"""Training methods: one file each, reading like its paper's algorithm box."""

from monai_ssl.objectives.adaptive_blended_consistency import AdaptiveBlendedConsistency
from monai_ssl.objectives.adversarial import Adversarial
from monai_ssl.objectives.base import Objective, Task, TeacherObjective
from monai_ssl.objectives.copy_paste import BidirectionalCopyPaste
from monai_ssl.objectives.cross_pseudo import CrossPseudo
from monai_ssl.objectives.dual_teacher import DualTeacher
from monai_ssl.objectives.entropy_minimisation import EntropyMinimisation
from monai_ssl.objectives.fixmatch import FixMatch
from monai_ssl.objectives.focalmix import FocalMix
from monai_ssl.objectives.interpolation_consistency import InterpolationConsistency
from monai_ssl.objectives.learned_transforms import LearnedTransforms
from monai_ssl.objectives.mean_teacher import MeanTeacher
from monai_ssl.objectives.momentum_contrast import MomentumContrast
from monai_ssl.objectives.multitask import Multitask
from monai_ssl.objectives.pseudo_boxes import PseudoBoxes
from monai_ssl.objectives.pseudo_label import PseudoLabel
from monai_ssl.objectives.reconstruction import Reconstruction
from monai_ssl.objectives.strong_view_teacher import StrongViewTeacher
from monai_ssl.objectives.supervised import Supervised
from monai_ssl.objectives.transform_class import TransformClass
from monai_ssl.objectives.triplet import Triplet
from monai_ssl.objectives.uncertainty_rectified_pyramid import UncertaintyRectifiedPyramid
from monai_ssl.objectives.view_invariance import ContrastiveViews, RegularizedViews

__all__ = [
    "AdaptiveBlendedConsistency",
    "Adversarial",
    "BidirectionalCopyPaste",
    "ContrastiveViews",
    "CrossPseudo",
    "DualTeacher",
    "EntropyMinimisation",
    "FixMatch",
    "FocalMix",
    "InterpolationConsistency",
    "LearnedTransforms",
    "MeanTeacher",
    "MomentumContrast",
    "Multitask",
    "Objective",
    "PseudoBoxes",
    "PseudoLabel",
    "Reconstruction",
    "RegularizedViews",
    "StrongViewTeacher",
    "Supervised",
    "Task",
    "TeacherObjective",
    "TransformClass",
    "Triplet",
    "UncertaintyRectifiedPyramid",
]
