"""Pretext and corruption transforms: pure ops over batches, with array and dictionary transforms around them."""

from monai_ssl.transforms.affine import (
    RandAffineView,
    RandAffineViewD,
    RandAffineViewd,
    RandAffineViewDict,
    affine_inside,
    apply_affine,
    undo_affine,
)
from monai_ssl.transforms.bias_correction import (
    N4BiasCorrection,
    N4BiasCorrectionD,
    N4BiasCorrectiond,
    N4BiasCorrectionDict,
    bias_field,
    corrects_bias,
)
from monai_ssl.transforms.block_mask import RandBlockMask, RandBlockMaskD, RandBlockMaskd, RandBlockMaskDict
from monai_ssl.transforms.blur import RandGaussianBlur, RandGaussianBlurD, RandGaussianBlurd, RandGaussianBlurDict
from monai_ssl.transforms.box_crop import RandBoxCropD, RandBoxCropd, RandBoxCropDict, crop_boxes
from monai_ssl.transforms.boxes import (
    PadBoxesD,
    PadBoxesd,
    PadBoxesDict,
    VoxelToWorldBoxD,
    VoxelToWorldBoxd,
    VoxelToWorldBoxDict,
    WorldToVoxelBoxD,
    WorldToVoxelBoxd,
    WorldToVoxelBoxDict,
)
from monai_ssl.transforms.brightness_contrast import (
    RandBrightnessContrast,
    RandBrightnessContrastD,
    RandBrightnessContrastd,
    RandBrightnessContrastDict,
)
from monai_ssl.transforms.gamma import RandGamma, RandGammaD, RandGammad, RandGammaDict
from monai_ssl.transforms.grid_symmetry import GridSymmetry, draw_symmetries, grid_symmetries, undo_scores
from monai_ssl.transforms.jigsaw import RandJigsaw, RandJigsawD, RandJigsawd, RandJigsawDict
from monai_ssl.transforms.local_shuffle import (
    RandLocalShuffle,
    RandLocalShuffleD,
    RandLocalShuffled,
    RandLocalShuffleDict,
)
from monai_ssl.transforms.low_resolution import (
    RandLowResolution,
    RandLowResolutionD,
    RandLowResolutiond,
    RandLowResolutionDict,
)
from monai_ssl.transforms.mask_boxes import MaskToBoxesD, MaskToBoxesd, MaskToBoxesDict, mask_to_boxes
from monai_ssl.transforms.mixing import cuboid_mask, cut_mix, draw_partners, draw_weights, mix_up
from monai_ssl.transforms.monotone_intensity import (
    RandMonotoneIntensity,
    RandMonotoneIntensityD,
    RandMonotoneIntensityd,
    RandMonotoneIntensityDict,
)
from monai_ssl.transforms.noise import RandAdditiveNoise, RandAdditiveNoiseD, RandAdditiveNoised, RandAdditiveNoiseDict
from monai_ssl.transforms.object_mixing import draw_object_partners, mix_objects
from monai_ssl.transforms.overlapping_crops import (
    RandOverlappingCrops,
    RandOverlappingCropsD,
    RandOverlappingCropsd,
    RandOverlappingCropsDict,
)
from monai_ssl.transforms.painting import (
    RandPainting,
    RandPaintingD,
    RandPaintingd,
    RandPaintingDict,
)
from monai_ssl.transforms.patch_swap import RandPatchSwap, RandPatchSwapD, RandPatchSwapd, RandPatchSwapDict
from monai_ssl.transforms.relative_position import (
    RandRelativePosition,
    RandRelativePositionD,
    RandRelativePositiond,
    RandRelativePositionDict,
)
from monai_ssl.transforms.right_angle_rotation import (
    RandRightAngleRotation,
    RandRightAngleRotationD,
    RandRightAngleRotationd,
    RandRightAngleRotationDict,
    RightAngleRotation,
)
from monai_ssl.transforms.save_nifti import SaveNiftiD, SaveNiftid, SaveNiftiDict
from monai_ssl.transforms.text_entries import (
    PutTextBackD,
    PutTextBackd,
    PutTextBackDict,
    SetTextAsideD,
    SetTextAsided,
    SetTextAsideDict,
)
from monai_ssl.transforms.volume_fusion import (
    RandVolumeFusion,
    RandVolumeFusionD,
    RandVolumeFusiond,
    RandVolumeFusionDict,
)

__all__ = [
    "GridSymmetry",
    "MaskToBoxesD",
    "MaskToBoxesDict",
    "MaskToBoxesd",
    "N4BiasCorrection",
    "N4BiasCorrectionD",
    "N4BiasCorrectionDict",
    "N4BiasCorrectiond",
    "PadBoxesD",
    "PadBoxesDict",
    "PadBoxesd",
    "PutTextBackD",
    "PutTextBackDict",
    "PutTextBackd",
    "RandAdditiveNoise",
    "RandAdditiveNoiseD",
    "RandAdditiveNoiseDict",
    "RandAdditiveNoised",
    "RandAffineView",
    "RandAffineViewD",
    "RandAffineViewDict",
    "RandAffineViewd",
    "RandBlockMask",
    "RandBlockMaskD",
    "RandBlockMaskDict",
    "RandBlockMaskd",
    "RandBoxCropD",
    "RandBoxCropDict",
    "RandBoxCropd",
    "RandBrightnessContrast",
    "RandBrightnessContrastD",
    "RandBrightnessContrastDict",
    "RandBrightnessContrastd",
    "RandGamma",
    "RandGammaD",
    "RandGammaDict",
    "RandGammad",
    "RandGaussianBlur",
    "RandGaussianBlurD",
    "RandGaussianBlurDict",
    "RandGaussianBlurd",
    "RandJigsaw",
    "RandJigsawD",
    "RandJigsawDict",
    "RandJigsawd",
    "RandLocalShuffle",
    "RandLocalShuffleD",
    "RandLocalShuffleDict",
    "RandLocalShuffled",
    "RandLowResolution",
    "RandLowResolutionD",
    "RandLowResolutionDict",
    "RandLowResolutiond",
    "RandMonotoneIntensity",
    "RandMonotoneIntensityD",
    "RandMonotoneIntensityDict",
    "RandMonotoneIntensityd",
    "RandOverlappingCrops",
    "RandOverlappingCropsD",
    "RandOverlappingCropsDict",
    "RandOverlappingCropsd",
    "RandPainting",
    "RandPaintingD",
    "RandPaintingDict",
    "RandPaintingd",
    "RandPatchSwap",
    "RandPatchSwapD",
    "RandPatchSwapDict",
    "RandPatchSwapd",
    "RandRelativePosition",
    "RandRelativePositionD",
    "RandRelativePositionDict",
    "RandRelativePositiond",
    "RandRightAngleRotation",
    "RandRightAngleRotationD",
    "RandRightAngleRotationDict",
    "RandRightAngleRotationd",
    "RandVolumeFusion",
    "RandVolumeFusionD",
    "RandVolumeFusionDict",
    "RandVolumeFusiond",
    "RightAngleRotation",
    "SaveNiftiD",
    "SaveNiftiDict",
    "SaveNiftid",
    "SetTextAsideD",
    "SetTextAsideDict",
    "SetTextAsided",
    "VoxelToWorldBoxD",
    "VoxelToWorldBoxDict",
    "VoxelToWorldBoxd",
    "WorldToVoxelBoxD",
    "WorldToVoxelBoxDict",
    "WorldToVoxelBoxd",
    "affine_inside",
    "apply_affine",
    "bias_field",
    "corrects_bias",
    "crop_boxes",
    "cuboid_mask",
    "cut_mix",
    "draw_object_partners",
    "draw_partners",
    "draw_symmetries",
    "draw_weights",
    "grid_symmetries",
    "mask_to_boxes",
    "mix_objects",
    "mix_up",
    "undo_affine",
    "undo_scores",
]
