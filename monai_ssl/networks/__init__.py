"""Networks: the teacher of a student, loading weights with a report, test-time augmentation."""

from monai_ssl.networks.fit import check_patch_size
from monai_ssl.networks.flips import FlipAverage, average_flips
from monai_ssl.networks.teacher import copy_student, dropout_active, make_teacher, update_average
from monai_ssl.networks.transfer import KeyReport, compare_keys, load_weights, read_weights

__all__ = [
    "FlipAverage",
    "KeyReport",
    "average_flips",
    "check_patch_size",
    "compare_keys",
    "copy_student",
    "dropout_active",
    "load_weights",
    "make_teacher",
    "read_weights",
    "update_average",
]
