from __future__ import annotations

from monai_ssl.study.findings import find
from monai_ssl.study.table_rows import beside_rows, mean_rows
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


def test_rows_of_other_measures_leave_the_baselines_difference_empty() -> None:
    content = without(make_content(seeds=2), "4", "mt", 0)
    content["beside"] = [{"metric": "surface_dice", "scores": content["scores"]}]
    findings = find(content)
    columns, rows = beside_rows(findings)
    assert columns[-4:] == ["mean", "95 % interval", "difference", "95 % interval"]
    assert len(rows) == len(content["scores"])
    assert rows[0][:5] == ["surface_dice", "2", "sup", "2", f"{findings['means'][0]['mean']:.4f}"]
    assert rows[0][6:] == ["", ""]
    effect = findings["primary"]["effect"]
    mt = next(row for row in rows if row[1:3] == ["2", "mt"])
    assert mt[6:] == [f"{effect['mean']:+.4f}", f"{effect['low']:.4f} to {effect['high']:.4f}"]
    one_seed = next(row for row in rows if row[1:3] == ["4", "mt"])
    assert one_seed[3] == "1"
    assert one_seed[5:] == ["", "", ""]
