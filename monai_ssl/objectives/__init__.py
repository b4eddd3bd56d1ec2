"""Training methods: one file each, reading like its paper's algorithm box."""

from monai_ssl.objectives.base import Objective
from monai_ssl.objectives.mean_teacher import MeanTeacher
from monai_ssl.objectives.supervised import Supervised

__all__ = ["MeanTeacher", "Objective", "Supervised"]
