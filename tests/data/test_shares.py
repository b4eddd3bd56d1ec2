from __future__ import annotations

from itertools import chain

import pytest

from monai_ssl.data.shares import own_share
from monai_ssl.utils.errors import UserError


@pytest.mark.parametrize(("count", "processes"), [(0, 1), (0, 3), (1, 1), (3, 3), (7, 3), (8, 2)])
def test_every_case_goes_to_one_process_and_each_has_about_as_many(count: int, processes: int) -> None:
    shares = [own_share(range(count), rank, processes) for rank in range(processes)]
    assert sorted(chain(*shares)) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(share for share in shares) == (count > 0)


@pytest.mark.parametrize("rank", range(3))
def test_too_few_cases_are_refused_by_every_process(rank: int) -> None:
    with pytest.raises(UserError, match=r"3 processes train together, and the list's `validation` has 2: each"):
        own_share(["a", "b"], rank, 3)


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_process_that_is_none_of_them(rank: int) -> None:
    with pytest.raises(ValueError, match=rf"`rank` must be in 0 to 1, got {rank}\."):
        own_share(["a", "b"], rank, 2)
