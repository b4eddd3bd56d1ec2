"""Pretext and corruption transforms: pure ops over batches, with array and dictionary transforms around them."""

from monai_ssl.transforms.block_mask import RandBlockMask, RandBlockMaskD, RandBlockMaskd, RandBlockMaskDict
from monai_ssl.transforms.jigsaw import RandJigsaw, RandJigsawD, RandJigsawd, RandJigsawDict
from monai_ssl.transforms.local_shuffle import (
    RandLocalShuffle,
    RandLocalShuffleD,
    RandLocalShuffled,
    RandLocalShuffleDict,
)
from monai_ssl.transforms.monotone_intensity import (
    RandMonotoneIntensity,
    RandMonotoneIntensityD,
    RandMonotoneIntensityd,
    RandMonotoneIntensityDict,
)
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
from monai_ssl.transforms.volume_fusion import (
    RandVolumeFusion,
    RandVolumeFusionD,
    RandVolumeFusiond,
    RandVolumeFusionDict,
)

__all__ = [
    "RandBlockMask",
    "RandBlockMaskD",
    "RandBlockMaskDict",
    "RandBlockMaskd",
    "RandJigsaw",
    "RandJigsawD",
    "RandJigsawDict",
    "RandJigsawd",
    "RandLocalShuffle",
    "RandLocalShuffleD",
    "RandLocalShuffleDict",
    "RandLocalShuffled",
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
]
