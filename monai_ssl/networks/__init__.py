"""Networks: the teacher of a student, and loading weights with a report."""

from monai_ssl.networks.fit import check_patch_size
from monai_ssl.networks.teacher import copy_student, dropout_active, make_teacher, update_average
from monai_ssl.networks.transfer import KeyReport, compare_keys, load_weights, read_weights

__all__ = [
    "KeyReport",
    "check_patch_size",
    "compare_keys",
    "copy_student",
    "dropout_active",
    "load_weights",
    "make_teacher",
    "read_weights",
    "update_average",
]
