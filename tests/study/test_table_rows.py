from __future__ import annotations

from monai_ssl.study.findings import find
from monai_ssl.study.table_rows import mean_rows
from tests.study.contents import make_content, without


def test_rows_show_the_labels_of_a_share_and_leave_missing_seeds_empty() -> None:
    content = without(make_content(seeds=2), "4", "mt", 0)
    content["scores"][0]["labels"] = [2, 3]
    content["findings"] = find(content)
    columns, rows = mean_rows(content)
    assert columns == ["labels", "method", "seeds", "mean dice", "95 % interval", "seed 0", "seed 1"]
    assert rows[0][0] == "2 (2-3)"
    assert rows[-1][0] == "all (32)"
    mt = next(row for row in rows if row[:2] == ["4", "mt"])
    assert (mt[2], mt[4], mt[5]) == ("1", "", "")
    assert mt[3] == mt[6] != ""
