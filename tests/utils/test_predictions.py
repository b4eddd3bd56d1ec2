"""Classes from scores."""

from __future__ import annotations

import pytest
import torch

from monai_ssl.utils.predictions import predicted_classes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("keepdim", [False, True])
def test_it_is_argmax_with_ties_and_nan(dtype, keepdim):
    scores = torch.randint(0, 3, (2, 4, 5, 6, 7), generator=torch.Generator().manual_seed(0)).to(dtype)
    scores[0, 2, 0, 0, 0] = torch.nan
    for dim in (0, 1):
        assert torch.equal(predicted_classes(scores, dim, keepdim), scores.argmax(dim, keepdim=keepdim))
    assert predicted_classes(scores)[0, 0, 0, 0] == 2
    assert predicted_classes(torch.zeros(1, 3, 2, 2)).eq(0).all()
