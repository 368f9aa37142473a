"""What a run says of its splits: classes that one lacks, too few images for quality measures, a given evaluator."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import experiments.tutorial.stages as command
from evaluator.configuration import EvaluatorConfig, SecondEvaluatorConfig
from evaluator.reporting.tutorial import TutorialReport
from experiments.configuration import Experiment
from experiments.tutorial.configuration import Tutorial
from experiments.tutorial.steps import TutorialStep, tutorial_steps
from lab.configuration.data import DataConfig
from lab.data.datasets import classes_without_images, digits, stratified_splits
from lab.errors import LabError
from tests.command import TINY, TINY_TUTORIAL, Mistake, new_root, run, table

FOLDER = ["digits", "--name", "pets", "--data.dataset", "scenes", "--data.folder", "pets", "--data.image-size", "8"]


def pets(root: Path, images: int = 40) -> list[str]:
    """Draw scenes of two classes, a third one that one image shows, and a fourth that none does."""
    folder, labels = root / "pets", {}
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(images):
        labels[f"{number}.png"] = ["rare"] if number == 7 else [["cat", "dog"][number % 2]]
        Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / f"{number}.png")
    for name, content in {
        "objects": ["cat", "dog", "rare", "never"], "train": labels,
        "test": [["cat"], ["dog"], ["rare"], ["never"]] * 3, "few": [["cat"], ["never"]],
    }.items():  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(content))
    return [*FOLDER, "--data.label-sets", "pets/test.json", "pets/few.json", *TINY]


@pytest.fixture(scope="module")
def warned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run with a second evaluator, and what it wrote to the standard error."""
    root = tmp_path_factory.mktemp("pets")
    arguments = [*pets(root), "--second-evaluator.share", "0.4"]
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setattr("sys.stderr.write", written.append)
        assert run(root, *arguments) == 0
    return root, "".join(written)


def test_a_class_that_a_split_lacks_is_named_before_the_training(warned: tuple[Path, str]) -> None:
    root, error = warned
    splits = {"generator": "it cannot have learned them", "held out": "the ceiling says nothing of them"}
    splits |= dict.fromkeys(("evaluator", "second evaluator"), "it cannot judge them")
    page = (root / "reports" / "pets" / "report.md").read_text(encoding="utf-8")
    for name, consequence in splits.items():
        (line,) = [line for line in error.splitlines() if f"warning: the split '{name}' has no image of" in line]
        assert "'never'" in line
        assert line.endswith(f", so {consequence}")
        assert f"the split '{name}' has no image of" in page
    # One image of the rare class is in one split.
    assert sum("'rare'" in line for line in error.splitlines() if "has no image of" in line) == 3
    assert error.index("has no image of") < error.index("computing on cpu")


def test_its_rows_say_so(warned: tuple[Path, str]) -> None:
    per_class = table(warned[0], "per_class", "pets").fillna({"warning": ""})
    warnings = {name: set(rows) for name, rows in per_class.groupby("class")["warning"]}
    assert warnings["cat"] == warnings["dog"] == {""}
    assert warnings["never"] == {"no image in: generator, evaluator, second evaluator, held out"}
    (rare,) = warnings["rare"]
    assert rare.count(",") == 2


def test_too_few_images_leave_their_cells_of_quality_empty(warned: tuple[Path, str]) -> None:
    root, error = warned
    quality = table(root, "quality", "pets")
    few, enough = (quality[quality["label_set"] == name] for name in ("few", "test"))
    assert len(few) == len(enough) == 3
    assert few["coverage"].isna().all()
    assert few["second_accuracy"].notna().all()
    assert enough["coverage"].notna().all()
    assert (enough["images"] == enough["images"].iloc[0]).all()
    told = "few.json has 2 images a cell, and the measures of quality need 6"
    assert told in error
    assert told in (root / "reports" / "pets" / "report.md").read_text(encoding="utf-8").replace("\\", "")


def test_too_few_images_in_a_split_are_met_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *pets(tmp_path, images=20), "--second-evaluator.share", "0.4") == 2
    told = "error: the split 'held out' has 4 images, and the measures of quality need 6"
    assert told in capsys.readouterr().err
    assert not (tmp_path / "checkpoints").exists()


def test_images_of_no_class_are_found_by_hand() -> None:
    images = digits()
    assert classes_without_images(images) == []
    sevens = images.subset((images.conditions[:, 7] > 0).nonzero().flatten())
    assert classes_without_images(sevens) == [name for name in "0123456789" if name != "7"]


@pytest.mark.parametrize(("evaluator", "held_out"), [(0.0, 0.2), (0.3, 0.0), (0.0, 0.0)])
def test_a_share_of_nothing_is_a_part_of_nothing(evaluator: float, held_out: float) -> None:
    splits = stratified_splits(digits(), evaluator, held_out, seed=0)
    assert (len(splits.evaluator) == 0, len(splits.held_out) == 0) == (evaluator == 0, held_out == 0)
    assert len(splits.generator) + len(splits.evaluator) + len(splits.held_out) == 1797
    assert len(splits.generator) == pytest.approx(1797 * (1 - evaluator - held_out), abs=10)


@pytest.mark.parametrize("share", ["evaluator_share", "held_out_share"])
def test_an_evaluator_trained_here_needs_images(share: str) -> None:
    with pytest.raises(
        LabError, match=f"--data.{share.replace('_', '-')} is 0, which is allowed with --evaluator.weig"
    ):
        Experiment(data=DataConfig(**{share: 0.0}))  # type: ignore[arg-type]  # one of its fields


GIVEN = EvaluatorConfig(weights=Path("judge.pt"))


def test_shares_count_as_far_as_they_are_taken() -> None:
    """The share of an evaluator that is not trained leaves no image out, so it refuses nothing."""
    data = DataConfig(evaluator_share=0.3, held_out_share=0.9)
    assert Experiment(data=data, evaluator=GIVEN).evaluator_share == 0
    second = SecondEvaluatorConfig(share=0.5)
    with pytest.raises(LabError, match=r"--data.evaluator-share 0.3 and --data.held-out-share 0.9 leave no image"):
        Experiment(data=data)
    with pytest.raises(LabError, match="leave no image for the generator; their sum may be 0.99 at most"):
        Experiment(data=data, evaluator=GIVEN, second_evaluator=second)


def test_a_second_evaluator_needs_a_share_to_take_a_part_of() -> None:
    with pytest.raises(
        LabError, match=r"--data.evaluator-share is 0, and the second evaluator .* is trained on a part"
    ):
        Experiment(
            data=DataConfig(evaluator_share=0.0), evaluator=GIVEN, second_evaluator=SecondEvaluatorConfig(share=0.4)
        )


@pytest.mark.long
def test_an_evaluator_given_to_a_finished_run_is_refused_with_its_cause(
    finished: Path, tmp_path: Path, mistake: Mistake
) -> None:
    root = shutil.copytree(finished, tmp_path / "lab")
    shutil.copy(root / "checkpoints" / "digits" / "evaluator.pt", root / "judge.pt")
    given = ["digits", *TINY, "--evaluator.weights", "judge.pt"]
    cause = (
        "data.evaluator_share is 0.3 there, 0.0 here\n--evaluator.weights changes it, because the generator then gets"
    )
    mistake(root, cause, *given)
    # The training says so too where it has no report yet.
    shutil.rmtree(root / "reports")
    mistake(root, f"training.pt was made with other settings: {cause}", *given)
    mistake(
        root, "training.batch_size is 128 there, 7 here\nchoose another", "digits", *TINY, "--training.batch-size", "7"
    )


@pytest.mark.long
def test_another_experiment_s_evaluator_has_seen_none_of_the_held_out_images(finished: Path, tmp_path: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "lab")
    shared = ["digits", *TINY, "--name", "shared", "--evaluator-of", "digits"]
    written: list[str] = []
    for other in (["--data.seed", "5"], ["--data.evaluator-share", "0.2"], ["--second-evaluator.share", "0.4"]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stderr.write", written.append)
            assert run(root, *shared, *other) == 2
        error = "".join(written)
        assert "evaluator.pt was trained on other images than this experiment leaves to its evaluator" in error
        assert not list((root / "checkpoints" / "shared").glob("epoch*.pt"))
        written.clear()
    assert run(root, *shared) == 0
    assert not (root / "checkpoints" / "shared" / "evaluator.pt").exists()
    rows = [table(root, "evaluator", name).iloc[0] for name in ("digits", "shared")]
    assert rows[0].equals(rows[1])
    assert table(root, "splits", "shared").equals(table(root, "splits"))


@pytest.mark.long
def test_a_tutorial_of_few_label_sets_has_a_table_without_their_quality(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def last_step(tutorial: Tutorial, base: Experiment | None = None) -> dict[str, TutorialStep]:
        return dict([*tutorial_steps(tutorial, base).items()][-1:])

    def captured(*arguments: object) -> None:
        written.extend(arguments)

    written: list[object] = []
    root = new_root(tmp_path)
    (root / "few.json").write_text('[["3"], ["4"]]')
    monkeypatch.setattr(command, "tutorial_steps", last_step)
    monkeypatch.setattr(command, "grids", lambda finished, splits: {})
    monkeypatch.setattr(command, "sheets", lambda finished: {})
    monkeypatch.setattr(command, "CORRUPTION", {})
    monkeypatch.setattr("evaluator.reporting.tutorial.write_tutorial", captured)
    arguments = ["tutorial-digits", *TINY_TUTORIAL, "--data.label-sets", "few.json"]
    assert run(root, *arguments) == 0
    _, report = written
    assert isinstance(report, TutorialReport)
    rows, reference, warnings = report.table, report.reference, report.warnings
    assert rows["accuracy"].notna().all()
    assert "coverage" not in rows
    assert reference["coverage"].notna().all()
    said = "few.json has 2 images a cell, and the measures of quality need 6; its cells of tutorial.csv stay empty"
    assert said in warnings["measures of quality"]
    error = capsys.readouterr().err
    assert error.index(said) < error.index("training:")


def test_a_tutorial_with_too_few_held_out_images_is_refused_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = new_root(tmp_path)
    assert run(root, "tutorial-digits", *TINY_TUTORIAL, "--data.held-out-share", "0.002") == 2
    assert "error: the split 'held out' has 4 images, and the measures of quality need 6" in capsys.readouterr().err
    assert not list(root.glob("checkpoints/*/*.pt"))


@pytest.mark.long
def test_with_an_evaluator_given_the_generator_gets_all_other_images(
    finished: Path, tmp_path: Path, mistake: Mistake
) -> None:
    root = new_root(tmp_path)
    shutil.copy(finished / "checkpoints" / "digits" / "evaluator.pt", root / "judge.pt")
    given = ["digits", *TINY, "--evaluator.weights", "judge.pt"]
    assert run(root, *given) == 0
    splits = table(root, "splits").set_index("split")["images"]
    assert set(splits.index) == {"generator", "held out"}
    assert splits["generator"] == pytest.approx(0.8 * 1797, abs=10)
    assert pd.isna(table(root, "evaluator").iloc[0]["training_images"])
    page = (root / "reports" / "digits" / "report.md").read_text(encoding="utf-8")
    assert "This experiment did not train the evaluator, and the images that did are unknown. Held-out images" in page
    assert "no network here is trained on the held-out images" not in page
    # Other images are another training.
    mistake(root, "data.evaluator_share is 0.0 there, 0.3 here", "digits", *TINY)

    assert run(root, *given, "--name", "all", "--data.held-out-share", "0") == 0
    assert table(root, "splits", "all").set_index("split")["images"].to_dict() == {"generator": 1797}
    ceiling = table(root, "baselines", "all").iloc[0]
    assert (ceiling["baseline"], ceiling["images"]) == ("real held-out images", 0)
    assert pd.isna(ceiling["accuracy"])
    page = (root / "reports" / "all" / "report.md").read_text(encoding="utf-8")
    assert "The ceiling was not measured: no image is held out." in page
    for claim in ("are the ceiling", "real held-out images reach", "trained on the held-out images", "None"):
        assert claim not in page
    assert not [warning for warning in page.splitlines() if "held out" in warning and "Warning" in warning]
