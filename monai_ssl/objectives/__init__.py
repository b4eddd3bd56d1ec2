"""Training methods: one file each, reading like its paper's algorithm box."""

from monai_ssl.objectives.adversarial import Adversarial
from monai_ssl.objectives.base import Objective, Task
from monai_ssl.objectives.mean_teacher import MeanTeacher
from monai_ssl.objectives.momentum_contrast import MomentumContrast
from monai_ssl.objectives.multitask import Multitask
from monai_ssl.objectives.reconstruction import Reconstruction
from monai_ssl.objectives.supervised import Supervised
from monai_ssl.objectives.transform_class import TransformClass
from monai_ssl.objectives.triplet import Triplet
from monai_ssl.objectives.view_invariance import ContrastiveViews, RegularizedViews

__all__ = [
    "Adversarial",
    "ContrastiveViews",
    "MeanTeacher",
    "MomentumContrast",
    "Multitask",
    "Objective",
    "Reconstruction",
    "RegularizedViews",
    "Supervised",
    "Task",
    "TransformClass",
    "Triplet",
]
