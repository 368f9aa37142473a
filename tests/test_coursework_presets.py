"""The coursework's own experiment as a command, small, on digits; and the results that its source printed."""

from pathlib import Path

import pandas as pd
import pytest

from evaluator.reporting.printed import PRINTED, PrintedResult, with_printed
from experiments.presets import PRESETS
from lab.configuration.diffusion import AncestralConfig, LinearScheduleConfig
from lab.configuration.training import TrainingConfig
from tests.command import COURSEWORK_ON_DIGITS, new_root, run, table


def test_the_coursework_s_experiment_is_its_source_s_to_the_letter() -> None:
    experiment = PRESETS["iclevr-coursework"][1]
    assert experiment.precision == "float32"
    assert experiment.schedule == LinearScheduleConfig(timesteps=400, beta_start=1e-4, beta_end=0.02, extra_beta=True)
    assert experiment.training == TrainingConfig(
        epochs=600, batch_size=128, drop_last=False, optimizer="adamw", learning_rate=1e-4, weight_decay=0,
        weighting="as_predicted", warmup_steps=0, decay="none", max_gradient_norm=0, context_dropout=0, mirror=False,
        ema_decay=0, checkpoints=1, score_every=5,
    )  # fmt: skip
    assert experiment.training.kept_epochs == list(range(5, 601, 5))
    assert experiment.sampler == AncestralConfig(sampling_steps=400, clamp=False)
    assert (experiment.sweep.guidance_weights, experiment.sweep.seeds) == ((0.0,), 1)


def test_printed_results_stand_below_the_baselines_with_what_is_known_of_them() -> None:
    measured = pd.DataFrame([{"baseline": "unconditional", "label_set": "test", "images": 9, "accuracy": 0.1}])
    printed = [PrintedResult("GELU", 400, 0.5, {"test": 0.75, "new_test": 0.25})]
    found = with_printed(measured, printed, ["test", "own"])
    assert found["baseline"].tolist() == ["unconditional", PRINTED]
    assert found.iloc[1][["label_set", "variant", "epoch", "loss", "accuracy"]].tolist() == [
        "test", "GELU", 400, 0.5, 0.75
    ]  # fmt: skip
    assert found.iloc[0][["images", "accuracy"]].tolist() == [9, 0.1]
    assert found.iloc[0][["epoch", "loss"]].isna().all()
    pd.testing.assert_frame_equal(with_printed(measured, printed, ["own"]), measured)


@pytest.mark.long
@pytest.mark.parametrize("preset", ["iclevr-coursework", "iclevr-coursework-guided"])
def test_the_coursework_s_experiment_is_one_command(tmp_path: Path, preset: str) -> None:
    root = new_root(tmp_path)
    assert run(root, preset, *COURSEWORK_ON_DIGITS) == 0
    by_epoch, ranked, baselines = (table(root, name, preset) for name in ("accuracy_by_epoch", "ranking", "baselines"))
    assert by_epoch["epoch"].tolist() == [1, 2]
    assert list(by_epoch) == [
        "epoch", "step", "loss", "test", "test_low", "test_high", "new_test", "new_test_low", "new_test_high"
    ]  # fmt: skip
    assert len(ranked) == 2 * len(PRESETS[preset][1].sweep.guidance_weights)
    printed = baselines[baselines["baseline"] == PRINTED]
    columns = ["label_set", "variant", "epoch", "loss", "accuracy"]
    assert printed[columns].to_numpy().tolist() == [
        ["test", "GELU", 400, 0.0014459396, 0.5556], ["new_test", "GELU", 400, 0.0014459396, 0.6190],
        ["test", "ReLU", 399, 0.0014182666, 0.5417], ["new_test", "ReLU", 399, 0.0014182666, 0.6190],
        ["test", "cyclic with decay", 399, 0.0005258197, 0.4861],
        ["new_test", "cyclic with decay", 399, 0.0005258197, 0.4881],
        ["test", "GELU", 590, 0.0013609619, 0.625], ["new_test", "GELU", 590, 0.0013609619, 0.6904762],
    ]  # fmt: skip
    page = (root / "reports" / preset / "report.md").read_text(encoding="utf-8")
    assert page.count(f"| {PRINTED}") == 8
    assert "nan" not in page
    assert len(list((root / "checkpoints" / preset / "by_accuracy").iterdir())) == 2


@pytest.mark.long
def test_a_given_evaluator_leaves_all_images_to_the_generator(finished: Path, tmp_path: Path) -> None:
    root = new_root(tmp_path)
    evaluator = str(finished / "checkpoints" / "digits" / "evaluator.pt")
    given = ["--evaluator.weights", evaluator, "--data.held-out-share", "0", "--name", "all"]
    assert run(root, "iclevr-coursework", *COURSEWORK_ON_DIGITS, *given) == 0
    assert table(root, "splits", "all").to_numpy().tolist() == [["generator", 1797, 1.0]]
    page = (root / "reports" / "all" / "report.md").read_text(encoding="utf-8")
    assert "The ceiling was not measured" in page
    assert page.count(f"| {PRINTED}") == 8
