"""Networks: encoders with heads, the teacher of a student, loading weights with a report, test-time augmentation."""

from monai_ssl.networks.detector import Detector
from monai_ssl.networks.encoder import (
    EncoderTaps,
    encode,
    encode_and_decode,
    encoder_keys,
    encoder_parameters,
    encoder_taps,
    feature_shapes,
)
from monai_ssl.networks.feature_queue import FeatureQueue
from monai_ssl.networks.fit import check_patch_size, try_patch
from monai_ssl.networks.flips import FlipAverage, average_flips
from monai_ssl.networks.frozen_features import FrozenEncoder, TiledVector, load_encoder
from monai_ssl.networks.heads import ClassificationHead, NetworkOutput, ProjectionHead, ReconstructionHead
from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.networks.pretrained import load_pretrained
from monai_ssl.networks.pyramid_network import DecoderTaps, PyramidNetwork, decoder_taps
from monai_ssl.networks.restoration import MaskedRestoration, load_restoration
from monai_ssl.networks.sliding_detector import AlignedWindowInferer, sliding_detector
from monai_ssl.networks.teacher import copy_student, dropout_active, make_teacher, update_average
from monai_ssl.networks.transfer import KeyReport, TransferReport, compare_keys, load_weights, read_weights

__all__ = [
    "AlignedWindowInferer",
    "ClassificationHead",
    "DecoderTaps",
    "Detector",
    "EncoderTaps",
    "FeatureQueue",
    "FlipAverage",
    "FrozenEncoder",
    "KeyReport",
    "MaskedRestoration",
    "NetworkOutput",
    "PretextNetwork",
    "ProjectionHead",
    "PyramidNetwork",
    "ReconstructionHead",
    "TiledVector",
    "TransferReport",
    "average_flips",
    "check_patch_size",
    "compare_keys",
    "copy_student",
    "decoder_taps",
    "dropout_active",
    "encode",
    "encode_and_decode",
    "encoder_keys",
    "encoder_parameters",
    "encoder_taps",
    "feature_shapes",
    "load_encoder",
    "load_pretrained",
    "load_restoration",
    "load_weights",
    "make_teacher",
    "read_weights",
    "sliding_detector",
    "try_patch",
    "update_average",
]
