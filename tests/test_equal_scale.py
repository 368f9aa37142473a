"""Methods at equal effective scale: interpolation and verdicts by hand, and the command as a user runs it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluator.judging.equal_scale import FileRows, can_compare, equal_scale, paired_difference, shares
from evaluator.reporting.methods import straightness, verdict
from tests.command import TINY, new_root, run, table

IMAGES = 200
Row = tuple[str, float, float, float, list[int]]


def file_rows(rows: Sequence[Row], warned: tuple[str, ...] = ()) -> FileRows:
    """Return the rows of a file: (method, weight, scale, evaluations, correct images)."""
    frame = pd.DataFrame(
        {
            "label_set": "test",
            "guidance_method": method,
            "guidance_settings": f"of={method}",
            "guidance_weight": weight,
            "effective_guidance_scale": scale,
            "network_evaluations": evaluations,
            "accuracy": len(correct) / IMAGES,
            "accuracy_low": 0.0,
            "accuracy_high": 1.0,
            "guidance_warning": "beyond" if method in warned else "",
        }
        for method, weight, scale, evaluations, correct in rows
    )
    columns = [np.isin(np.arange(IMAGES), correct) for *_, correct in rows]
    return FileRows(frame, np.stack(columns, axis=1).astype(int), np.ones(IMAGES, dtype=int))


PLAIN: list[Row] = [
    ("plain", 0.0, 1.0, 10, [*range(100)]),
    ("plain", 1.0, 2.0, 20, [*range(140)]),
    ("plain", 3.0, 4.0, 20, [*range(180)]),
]


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(1.0, [0, 1, 0]), (4.0, [1, 0, 0]), (1.25, [0, 0.75, 0.25]), (3.0, [0.5, 0, 0.5])],
)
def test_interpolation_is_linear_between_the_neighbours(scale: float, expected: list[float]) -> None:
    found = shares(np.array([4.0, 1.0, 2.0]), scale)
    assert found is not None
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("scale", [0.99, 4.01, float("nan")])
def test_there_is_no_extrapolation(scale: float) -> None:
    assert shares(np.array([4.0, 1.0, 2.0]), scale) is None


def test_a_row_is_compared_at_its_scale_and_at_its_weight() -> None:
    # At scale 3, halfway between plain rows of accuracy 0.7 and 0.9; at weight 1, beside the row of 0.7.
    file = file_rows([*PLAIN, ("other", 1.0, 3.0, 20, [*range(160)])])
    row = equal_scale([file]).rows.iloc[3]
    assert row["plain_accuracy"] == pytest.approx(0.8)
    assert row["plain_network_evaluations"] == 20
    assert row["at_equal_scale"] == pytest.approx(0)
    assert row["at_equal_weight"] == pytest.approx(0.1)
    # Twenty images of the difference are -1/2 + 1, and twenty -1/2: the interval is symmetric around 0.
    half = 1.96 * np.sqrt(40 * 0.25) / IMAGES
    assert row["at_equal_scale_high"] == pytest.approx(half, rel=0.15)
    assert row["at_equal_scale_low"] == pytest.approx(-half, rel=0.15)
    assert row["at_equal_weight_low"] > 0


def test_differences_are_paired() -> None:
    # Of two rows with equal accuracies, one has the images of plain guidance and one has others.
    same, others = [*range(140)], [*range(60, 200)]
    rows = equal_scale([file_rows([*PLAIN, ("same", 1.0, 2.0, 20, same), ("others", 1.0, 2.0, 20, others)])]).rows
    ends = rows[["at_equal_scale", "at_equal_scale_low", "at_equal_scale_high"]].to_numpy(float)
    assert ends[3].tolist() == [0, 0, 0]
    assert ends[4, 0] == 0
    assert ends[4, 1] < -0.08 < 0.08 < ends[4, 2]


def test_the_interval_of_a_ratio_has_the_labels_below() -> None:
    difference, asked = np.array([1.0, 0, -1, 3]), np.array([1, 2, 1, 4])
    draws = np.array([[4, 0, 0, 0], [0, 0, 4, 0]])
    interval = paired_difference(difference, asked, draws)
    assert interval.value == 3 / 8
    assert (interval.low, interval.high) == pytest.approx((-0.95, 0.95))


def test_the_bend_of_plain_guidances_curve_is_that_of_its_inner_guided_rows() -> None:
    # 0.7 at a scale of 2, a third of the way between 0.5 and 0.9; the row at a scale of 1 does not guide.
    rows: list[Row] = [*PLAIN, ("plain", -0.5, 0.5, 20, [*range(60)]), ("other", 1.0, 2.0, 20, [*range(140)])]
    bend = equal_scale([file_rows(rows), file_rows(rows)]).bend
    assert bend.value == pytest.approx(0.7 - (0.5 * 2 / 3 + 0.9 / 3))
    # 40 images in 200 differ by 1 - 1/3 and 40 by -1/3, in either file.
    deviation = np.sqrt((40 * (2 / 3) ** 2 + 40 * (1 / 3) ** 2) / 200 - bend.value**2) / np.sqrt(2 * IMAGES)
    assert (bend.high - bend.low) / 2 == pytest.approx(1.96 * deviation, rel=0.1)
    assert straightness(bend)[0].count("+0.067") == 1
    assert "0.017: a gain" in straightness(bend)[0]


def test_a_curve_that_bends_the_other_way_warns_of_no_gain() -> None:
    rows: list[Row] = [("plain", w, w + 1, 20, [*range(right)]) for w, right in ((0.0, 100), (1.0, 110), (2.0, 180))]
    (sentence,) = straightness(equal_scale([file_rows([*rows, ("other", 1.0, 2.0, 20, [*range(140)])])]).bend)
    assert "-0.150" in sentence
    assert sentence.endswith("So no gain is known to come from the straight line.")


def test_a_curve_of_two_rows_has_no_bend() -> None:
    bend = equal_scale([file_rows([*PLAIN[:2], ("other", 1.0, 2.0, 20, [*range(140)])])]).bend
    assert np.isnan(bend.value)
    assert straightness(bend) == []


def by_method(*files: FileRows) -> pd.DataFrame:
    return equal_scale(files).methods.set_index("guidance_method")


def test_a_methods_difference_is_the_mean_over_the_rows_that_count() -> None:
    better = [*range(160)]
    methods = by_method(
        file_rows(
            [
                *PLAIN,
                ("plain", -0.5, 0.5, 20, [*range(60)]),
                ("mixed", 1.0, 2.0, 20, better),  # 0.8 against 0.7
                ("mixed", 3.0, 4.0, 20, [*range(190)]),  # 0.95 against 0.9
                ("mixed", 5.0, 6.0, 20, [*range(200)]),  # beyond the curve
                ("mixed", 0.0, 2.0, 30, [*range(200)]),  # dearer than plain guidance there
                ("mixed", 0.0, 1.0, 10, [*range(100)]),  # without guidance
                ("mixed", -0.5, 0.5, 20, [*range(200)]),  # less than the condition alone
                ("mixed", -0.5, float("nan"), 20, [*range(200)]),
                ("mixed", 0.5, float("nan"), 20, [*range(200)]),  # without a scale
            ]
        )
    )
    row = methods.loc["mixed"]
    assert row["at_equal_scale"] == pytest.approx((0.1 + 0.05) / 2)
    assert (row["rows_at_equal_scale"], row["rows_at_equal_weight"], row["rows"]) == (2, 3, 8)
    assert row["at_equal_weight"] == pytest.approx((0.1 + 0.05 + 0.5) / 3, abs=1e-6)
    assert row["guidance_settings"] == "of=mixed"


def test_files_are_pooled_by_image() -> None:
    better, worse = ("other", 1.0, 2.0, 20, [*range(160)]), ("other", 1.0, 2.0, 20, [*range(130)])
    both = by_method(file_rows([*PLAIN, better]), file_rows([*PLAIN, worse])).loc["other"]
    assert both["at_equal_scale"] == pytest.approx((0.1 - 0.05) / 2)
    assert both["rows"] == 2


def test_the_verdict_names_who_wins_and_at_what() -> None:
    file = file_rows(
        [
            *PLAIN,
            ("winner", 1.0, 2.0, 20, [*range(170)]),
            ("stronger", 1.0, 4.0, 20, [*range(180)]),  # plain guidance at w = 3 is as good
            ("worse", 1.0, 2.0, 20, [*range(100)]),
            ("dear", 1.0, 2.0, 30, [*range(200)]),
            ("sideways", 1.0, float("nan"), 20, [*range(200)]),
            ("abused", 1.0, 2.0, 20, [*range(200)]),
        ],
        warned=("abused",),
    )
    assert verdict(equal_scale([file]).methods) == (
        "At equal effective scale and no more network evaluations, winner beats plain guidance; at equal w alone, "
        "stronger does. Worse at equal scale: worse. Not compared, because no row has a scale and a cost that "
        "plain guidance has: dear, sideways. Not compared, because no row is within what the method is defined for: "
        "abused."
    )


def test_a_method_without_a_scale_is_not_compared_by_its_unguided_row() -> None:
    unguided, guided = ("auto", 0.0, 1.0, 10, [*range(100)]), ("auto", 1.0, float("nan"), 20, [*range(200)])
    compared = equal_scale([file_rows([*PLAIN, unguided, guided])]).methods
    assert compared["at_equal_scale"].isna().all()
    assert compared["at_equal_weight"].item() == pytest.approx(0.3)
    assert verdict(compared) == (
        "At equal effective scale and no more network evaluations, no method beats plain guidance; no compared "
        "method beats it at equal w alone. Not compared, because no row has a scale and a cost that plain "
        "guidance has: auto."
    )


def test_without_two_scales_of_plain_guidance_there_is_no_comparison() -> None:
    other = ("other", 1.0, 2.0, 20, [*range(160)])
    assert can_compare(file_rows([*PLAIN, other]).rows)
    assert not can_compare(file_rows(PLAIN).rows)
    assert not can_compare(file_rows([PLAIN[0], other]).rows)
    unmeasured: list[Row] = [(method, weight, float("nan"), cost, right) for method, weight, _, cost, right in PLAIN]
    assert not can_compare(file_rows([*unmeasured, other]).rows)


@pytest.mark.long
def test_a_sweep_of_methods_reports_them_at_equal_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = new_root(tmp_path)
    arguments = shlex.split(
        "--guidance.method plain interval:low=0.1 rescale auto plus_plus --sampler.kind ddim "
        "--sweep.guidance-weights 0 1 3 --sweep.newest 1"
    )
    assert run(root, "digits", *TINY, *arguments) == 0
    assert (
        "guidance method plus_plus: it is defined for w from -1 to 0, not for w = 1, w = 3" in capsys.readouterr().err
    )
    sweep = table(root).set_index(["guidance_method", "guidance_weight", "label_set"]).sort_index()
    plain = sweep.loc["plain"]
    assert plain["effective_guidance_scale"].to_numpy() == pytest.approx(plain["guidance_scale"].to_numpy(), abs=1e-3)
    scales = sweep["effective_guidance_scale"]
    interval = scales["interval:low=0.1"]
    # Of three steps one is above sigma / alpha = 5.
    assert interval[3.0].to_numpy() == pytest.approx(1 + 3 * 2 / 3, abs=1e-3)
    assert scales["auto"].loc[[1.0, 3.0]].isna().all()
    assert (scales["auto"][0.0] == 1).all()
    # CFG++ at w = 0 guides: its scale is above 1.
    assert (scales["plus_plus"][0.0] > 1.1).all()
    warned, warnings = sweep["guidance_warning"].notna(), sweep["guidance_warning"].loc["plus_plus"]
    assert set(sweep[warned].index.get_level_values(0)) == {"plus_plus"}
    assert "not for" not in warnings[0.0].iloc[0]
    assert "without clamping" in warnings[0.0].iloc[0]
    assert "not for w = 3" in warnings[3.0].iloc[0]
    rows, methods = table(root, "equal_scale"), table(root, "methods")
    assert len(rows) == len(sweep)
    assert rows.loc[rows["guidance_method"] == "plain", "at_equal_scale"].eq(0).all()
    assert set(methods["guidance_method"]) == {"interval:low=0.1", "rescale", "auto", "plus_plus"}
    assert "low=0.1 high=5.0" in methods["guidance_settings"].to_list()
    page = (root / "reports" / "digits" / "report.md").read_text(encoding="utf-8")
    assert "At equal effective scale and no more network evaluations," in page
    assert "within what the method is defined for: plus\\_plus." in page
    assert "low=0.1 high=5.0" in page
    assert (root / "reports" / "digits" / "accuracy_vs_scale.png").stat().st_size > 10_000
    # With plain guidance alone there is nothing to compare, and nothing is left of the comparison.
    assert run(root, "digits", *TINY, "--sampler.kind", "ddim", "--sweep.guidance-weights", "1") == 0
    assert not (root / "reports" / "digits" / "equal_scale.csv").exists()
    assert "equal_scale.csv" not in (root / "reports" / "digits" / "report.md").read_text(encoding="utf-8")
