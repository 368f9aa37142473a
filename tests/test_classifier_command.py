"""Guidance by a classifier as a user runs it: the guide is trained, and rows whose guide is their judge are marked."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lab
import run_experiments
from evaluator.classifiers.weights import load_evaluator
from evaluator.judging.cells import NOT_TO_BE_BELIEVED
from lab.sweep.cells import read_cell
from tests.command import CPU, TINY, new_root, run, table

pytestmark = pytest.mark.slow

GUIDED = shlex.split(
    "digits --name guided --second-evaluator.share 0.4 --sweep.newest 1 --data.label-sets data/digits/test.json "
    "--guidance.method plain classifier:by=judge,scale=0 classifier classifier:by=judge classifier:gradient=x_t dynamic"
)
TWO_WEIGHTS = [*TINY, "--sweep.guidance-weights", "0", "2"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_root(tmp_path_factory.mktemp("lab"))
    assert run(folder, *GUIDED, *TWO_WEIGHTS) == 0
    return folder


def test_the_guide_is_a_third_classifier_of_the_generators_images(root: Path) -> None:
    folder = root / "checkpoints" / "guided"
    assert {path.stem for path in folder.glob("*.pt")} >= {"guide", "evaluator", "second_evaluator"}
    images = {
        name: load_evaluator(folder / f"{name}.pt", None, CPU).settings["images"]
        for name in ("guide", "evaluator", "second_evaluator")
    }
    assert len(set(images.values())) == 3
    splits = lab.stratified_splits(lab.digits(), evaluator_share=0.3, held_out_share=0.2, seed=0)
    assert images["guide"] == splits.generator.digest


def test_rows_guided_by_their_judge_are_marked_everywhere_and_no_others(root: Path) -> None:
    sweep = table(root, experiment="guided").fillna({"guidance_warning": ""})
    by_judge = sweep["guidance_method"] == "classifier:by=judge"
    assert by_judge.sum() == 2
    assert ((sweep["guidance_warning"] == NOT_TO_BE_BELIEVED) == by_judge).all()
    ranking = table(root, "ranking", "guided")
    assert ranking["guidance_method"].to_list()[-2:] == ["classifier:by=judge"] * 2
    for name in ("report.md", "accuracy_by_checkpoint.tex", "report.html"):
        text = (root / "reports" / "guided" / name).read_text(encoding="utf-8")
        assert NOT_TO_BE_BELIEVED in text
    page = (root / "reports" / "guided" / "report.md").read_text(encoding="utf-8")
    section = page[page.index("## Two judges") : page.index("## Quality")]
    # A row for each method and weight, and the one of real images.
    assert section.count("\n| ") == 1 + 1 + 6 * 2
    assert section.count(NOT_TO_BE_BELIEVED) == 2


def test_both_judges_and_the_cost_stand_in_the_tables(root: Path) -> None:
    sweep, quality = table(root, experiment="guided"), table(root, "quality", "guided")
    assert quality["second_accuracy"].notna().all()
    for method, back, guide in (("plain", 1, 0), ("classifier", 1, 3), ("classifier:gradient=x_t", 2, 3)):
        rows = sweep[sweep["guidance_method"] == method].set_index("guidance_weight")
        assert rows["network_evaluations"].to_dict() == {0.0: 3 * back, 2.0: 6 * back}
        assert (rows["guide_evaluations"] == guide).all()
    dynamic = sweep[sweep["guidance_method"] == "dynamic"].set_index("guidance_weight")
    assert dynamic["network_evaluations"].to_dict() == {0.0: 3, 2.0: 6}
    # Five candidates at each of three steps; at w = 0 there is nothing to choose.
    assert dynamic["guide_evaluations"].to_dict() == {0.0: 0, 2.0: 15}
    assert dynamic["effective_guidance_scale"].between(1, 3).all()
    assert sweep.loc[sweep["guidance_method"] == "classifier", "effective_guidance_scale"].isna().all()


def test_at_scale_0_it_is_plain_guidance_to_the_bit(root: Path) -> None:
    sweep = table(root, experiment="guided")
    plain, neutral = (sweep[sweep["guidance_method"] == name] for name in ("plain", "classifier:scale=0,by=judge"))
    assert len(plain) == 2
    for name in ("accuracy", "unasked_rate", "effective_guidance_scale", "network_evaluations", "guide_evaluations"):
        assert neutral[name].tolist() == plain[name].tolist()
    files = sorted((root / "checkpoints" / "guided" / "cells").glob("epoch0002-test-w2-*.npz"))
    pixels = {path.stem: np.load(path)["pixels"] for path in files}
    of_plain = next(each for name, each in pixels.items() if "-plain-" in name)
    assert [np.array_equal(each, of_plain) for each in pixels.values()].count(True) == 2
    assert len(files) == 6


def test_a_guide_of_other_settings_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, *GUIDED, *TWO_WEIGHTS, "--guide.kind", "objects") == 2
    assert "guide.pt was made with other settings: guide.kind is conv there, objects here" in capsys.readouterr().err


def test_the_guide_is_part_of_a_cells_name(root: Path) -> None:
    (path,) = (root / "checkpoints" / "guided" / "cells").glob("epoch0002-test-w0-plain-*.npz")
    cell = read_cell(json.loads(str(np.load(path)["told"]))["cell"])
    guided = [replace(cell, guide_digest=digest) for digest in ("", "a", "b", cell.evaluator_digest)]
    assert len({one.key for one in guided}) == 4
    assert guided[0].key == cell.key
    assert [one.guided_by_judge for one in guided] == [False, False, False, True]


def test_sample_takes_the_guide_and_makes_the_images_of_the_sweep(root: Path, tmp_path: Path) -> None:
    folder = root / "checkpoints" / "guided"
    fixed = shlex.split(f"sample --device cpu --sampler.sampling-steps 3 --checkpoint {folder / 'epoch0002.pt'}")
    asked = ["--label-sets", str(root / "data" / "digits" / "test.json"), "--guidance-weight", "0"]
    method = ["--guidance.method", "classifier:gradient=x_t"]
    out = tmp_path / "guided"
    guide = ["--guide", str(folder / "guide.pt")]
    assert run_experiments.main([*fixed, *asked, *method, *guide, "--out", str(out)]) == 0
    cells = [np.load(path)["pixels"] for path in folder.glob("cells/epoch0002-test-w0-classifier-*.npz")]
    made = np.stack([np.asarray(Image.open(out / f"{i}.png").convert("L")) for i in range(100)])
    # Another batch may round to the next of 256 values.
    nearest = min(int(np.abs(made.astype(int) - cell[:, 0].astype(int)).max()) for cell in cells)
    assert nearest <= 1


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("--guidance.method classifier and --guide belong together", "--guidance.method classifier"),
        ("--guidance.method classifier or dynamic and --guide belong together", "--guide GUIDE"),
        ("has by=judge, and sample has no judge", "--guidance.method classifier:by=judge --guide GUIDE"),
    ],
)
def test_mistakes_of_sample(
    root: Path, tmp_path: Path, message: str, arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = root / "checkpoints" / "guided"
    given = [word.replace("GUIDE", str(folder / "guide.pt")) for word in shlex.split(arguments)]
    fixed = ["sample", "--checkpoint", str(folder / "epoch0002.pt"), "--ask", "7", "--out", str(tmp_path / "out")]
    assert run_experiments.main([*fixed, *given]) == 2
    assert message in capsys.readouterr().err


def test_from_python_a_classifier_guides(root: Path) -> None:
    folder = root / "checkpoints" / "guided"
    checkpoint = lab.read_checkpoint(folder / "epoch0002.pt")
    guide = load_evaluator(folder / "guide.pt", None, CPU).classifier
    sampler = lab.DDIMConfig(sampling_steps=3)
    label_sets = [["7"], ["3"]]
    plain = lab.sample(checkpoint, label_sets, sampler=sampler, device="cpu", progress=False)
    guided = [
        lab.sample(
            checkpoint, label_sets, guidance=method, guide=guide, sampler=sampler, device="cpu", progress=False
        )
        for method in ("classifier:scale=0", "classifier:scale=5,gradient=x_t")
    ]  # fmt: skip
    assert torch.equal(guided[0], plain)
    assert not torch.equal(guided[1], plain)
