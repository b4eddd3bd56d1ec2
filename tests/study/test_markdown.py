from __future__ import annotations

from typing import Any

from monai_ssl.study.findings import find
from monai_ssl.study.markdown import write_markdown
from tests.study.contents import make_content, without


def written(content: dict[str, Any]) -> tuple[dict[str, Any], str]:
    content = {**content, "findings": find(content)}
    return content["findings"], write_markdown(content)


def test_the_answer_stands_first_and_every_figure_is_that_of_the_findings() -> None:
    findings, text = written(make_content())
    assert text.startswith("# What the study shows\n\n" + "\n\n".join(findings["answer"]))
    mean = findings["means"][0]
    row = f"| 2 | sup | 5 | {mean['mean']:.4f} | {mean['low']:.4f} to {mean['high']:.4f} | {mean['by_seed'][0]:.4f} |"
    assert row in text
    for entry in findings["others"]:
        effect = entry["effect"]
        cells = f"| {entry['budget']} | {entry['method']} | {effect['mean']:+.4f} | "
        cells += f"{effect['low']:.4f} to {effect['high']:.4f} |"
        (line,) = (one for one in text.splitlines() if one.startswith(cells))
        holm = "< 0.001" if entry["p_holm"] < 0.001 else f"{entry['p_holm']:.3f}"
        assert f"| {holm} |" in line
        assert line.endswith(f"| 5 | {entry['verdict']} |")
    for entry in findings["gap"]:
        share = f"{entry['fraction'] * 100:.0f} % | {entry['low'] * 100:.0f} % to {entry['high'] * 100:.0f} % |"
        assert f"| {entry['budget']} | {entry['method']} | {share}" in text
    for entry in findings["non_inferiority"]:
        assert f"| {entry['method']} | {entry['bound']:+.4f} | {'yes' if entry['shown'] else 'no'} |" in text
    for entry in findings["labels_saved"]:
        for point in entry["points"]:
            assert f"- {entry['method']}: {point['words']}." in text
    for words in (findings["family"], findings["power_law"]["words"], *findings["limits"]):
        assert words in text
    assert "| 2 | mt (primary) | " in text
    assert "Without mt at all: all labels leave no unlabelled case." in text


def test_a_figure_of_all_cases_together_is_no_mean_over_them() -> None:
    text = written(make_content(metric="cpm"))[1]
    assert "\n\ncpm (CPM) of 30 test cases together, the same for every run." in text
    assert "Differences to sup in CPM" in text
    assert "Mean dice (Dice) over 30 test cases, the same for every run." in written(make_content())[1]


def test_reasons_stand_where_figures_are_missing() -> None:
    findings, text = written(make_content(seeds=1, metric="hausdorff_95"))
    reason = findings["primary"]["reason"]
    assert f"| 2 | mt (primary) |  |  |  |  |  | 1 | {reason} |" in text
    assert f"| 2 | mt |  | {findings['gap'][0]['reason']} |" in text
    assert f"- mt: cannot be told, {findings['labels_saved'][0]['reason']}." in text
    assert f"A power law as a check only: none, since {findings['power_law']['reason']}." in text
    assert "## Not worse" not in text
    assert "There is no ceiling" in written(make_content(budgets=("2",)))[1]


def test_tables_are_whole_whatever_the_names() -> None:
    content = make_content({"a|b": 0.01, "mt": 0.01})
    text = written(without(content, "2", "a|b"))[1]
    tables = [block for block in text.split("\n\n") if block.startswith("| ")]
    assert len(tables) == 4
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1
    assert "a\\|b" in text


def test_a_chosen_checkpoint_a_fixed_ceiling_and_cases_left_out_are_said() -> None:
    content = without(make_content(chosen=["cps"]), "all", "sup", 1, 2, 3, 4)
    content["scores"][0]["values"][0][0] = None
    text = written(content)[1]
    assert "for every method, but for cps: chosen on a fifth of the labels, which count as labels." in text
    assert "The ceiling is a single run, whose luck is in no interval." in text
    assert "over 29 of 30 test cases" in text


def test_other_measures_stand_behind_what_decides() -> None:
    content = make_content()
    assert "## Other measures" not in written(content)[1]
    text = written({**content, "beside": [{"metric": "surface_dice", "scores": content["scores"]}]})[1]
    assert text.index("## Labels saved") < text.index("## Other measures") < text.index("## What this does not show")
    assert "they decide nothing" in text
    assert "| surface_dice | 2 | mt | 5 | " in text
