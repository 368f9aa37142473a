"""Comparing methods of guidance on another experiment's checkpoints, as a user does."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from lab.data.datasets import digits
from tests.command import TINY, new_root, run, table

pytestmark = pytest.mark.long

COMPARED = shlex.split(
    "digits --name compared --checkpoints-of digits --second-evaluator.share 0.4 --guidance.method plain interval "
    "--sweep.newest 1"
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = new_root(tmp_path_factory.mktemp("lab"))
    assert run(root, "digits", *TINY) == 0
    before = {path: path.stat().st_mtime_ns for path in (root / "checkpoints" / "digits").glob("*.pt")}
    assert run(root, *COMPARED, *TINY, "--sweep.seeds", "2", "--sweep.lift-draws", "2") == 0
    assert {path: path.stat().st_mtime_ns for path in (root / "checkpoints" / "digits").glob("*.pt")} == before
    return root


def test_the_other_experiments_checkpoints_are_swept(compared: Path) -> None:
    own = {path.name for path in (compared / "checkpoints" / "compared").glob("*.pt")}
    assert own == {"evaluator.pt", "second_evaluator.pt"}
    sweep = table(compared, experiment="compared")
    assert set(sweep["checkpoint"]) == {"epoch0002"}
    assert set(sweep["guidance_method"]) == {"plain", "interval"}


def test_the_evaluators_share_no_image(compared: Path) -> None:
    whole = table(compared, "evaluator")["training_images"].item()
    assert table(compared, "evaluator", "compared")["training_images"].item() == pytest.approx(0.6 * whole, abs=2)


def test_the_report_has_the_number_of_images_in_each_split(compared: Path) -> None:
    sizes = table(compared, "splits", "compared").set_index("split")
    assert list(sizes.index) == ["generator", "evaluator", "second evaluator", "held out"]
    assert sizes["images"].sum() == len(digits())
    assert sizes["share"].tolist() == pytest.approx([0.5, 0.18, 0.12, 0.2], abs=0.002)
    page = (compared / "reports" / "compared" / "report.md").read_text(encoding="utf-8")
    for split, images in sizes["images"].items():
        assert re.search(rf"\| {split} +\| {images} +\|", page)
    alone = table(compared, "splits")
    assert alone["split"].tolist() == ["generator", "evaluator", "held out"]
    assert alone["images"].sum() == len(digits())


def test_quality_is_measured_of_every_cell_beside_real_images(compared: Path) -> None:
    quality, sweep = table(compared, "quality", "compared"), table(compared, experiment="compared")
    assert len(quality) == 1 + len(sweep)
    assert quality["of"].tolist() == ["real held-out images"] + ["generated images"] * len(sweep)
    cells = ["checkpoint", "label_set", "guidance_method", "guidance_weight"]
    assert sorted(map(tuple, quality[1:][cells].to_numpy())) == sorted(map(tuple, sweep[cells].to_numpy()))
    measured = quality.drop(columns=["of", "epoch", "network_evaluations", *cells])
    assert not measured.isna().any().any()
    page = (compared / "reports" / "compared" / "report.md").read_text(encoding="utf-8")
    assert "## Quality beside accuracy" in page
    for figure in ("accuracy_vs_coverage.png", "samples_by_method.png", "accuracy_by_class.png"):
        assert f"({figure})" in page
        assert (compared / "reports" / "compared" / figure).stat().st_size > 10_000


def test_the_best_of_n_stands_beside_all_images(compared: Path) -> None:
    best, sweep = table(compared, "best_of_n", "compared"), table(compared, experiment="compared")
    cell = ["label_set", "guidance_method", "guidance_weight"]
    merged = best.merge(sweep, on=cell, suffixes=("", "_of_all"))
    assert set(best["chosen_by"]) == {"second evaluator", "lift", "lift above 0"}
    assert set(best["n"].dropna()) == {1, 2}
    of_all = merged[merged["n"] == 1]
    assert len(of_all) == 2 * len(sweep)
    assert (of_all["accuracy"] == of_all["accuracy_of_all"]).all()
    assert (of_all["gain"] == 0).all()
    pairs = merged[merged["n"] == 2]
    measured = pairs["chosen_by"].map({"second evaluator": 0, "lift": 2 * 2})
    assert (pairs["network_evaluations"] == 2 * (pairs["network_evaluations_of_all"] + measured)).all()
    assert (pairs["images"] == pairs["images_of_all"] // 2).all()
    # There are two seeds, so the pairs have all images.
    assert (pairs["accuracy"] - pairs["gain"]).tolist() == pytest.approx(pairs["accuracy_of_all"].tolist(), abs=1e-5)
    # Measured lifts are kept in files, a cell each.
    assert len(list((compared / "checkpoints" / "compared" / "lifts").glob("*_2.npy"))) == len(sweep)


def test_at_its_neutral_weight_a_method_makes_the_images_of_the_plain_one(compared: Path) -> None:
    quality = table(compared, "quality", "compared").iloc[1:]
    for _, rows in quality[quality["guidance_weight"] == 0].groupby("label_set"):
        measured = rows.drop(columns=["guidance_method", "network_evaluations"])
        pd.testing.assert_series_equal(measured.iloc[0], measured.iloc[1], check_names=False)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("--second-evaluator.kind is conv, as --evaluator.kind is", "--second-evaluator.kind conv"),
        ("--checkpoints-of is '../digits'; it may have up to 100 letters", "--checkpoints-of ../digits"),
        ("--second-evaluator.share is 0.95; it must be", "--second-evaluator.share 0.95"),
        ("was made with other settings: denoiser.n_feat is 8 there, 16 here", "--denoiser.n-feat 16"),
    ],
)
def test_mistakes(compared: Path, message: str, arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(compared, *COMPARED, *TINY, *shlex.split(arguments)) == 2
    told = capsys.readouterr().err.strip().splitlines()[-2:]
    assert any(message in line for line in told), told
