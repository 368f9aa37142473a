"""The tutorial: its steps, its pictures against the sources' formulas, the command, and the notebook."""

import json
import math
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from evaluator.reporting.tutorial import PrintedLosses
from experiments.command_line import parse
from experiments.tutorial.configuration import Tutorial
from experiments.tutorial.presets import TUTORIALS
from experiments.tutorial.steps import tutorial_steps
from lab.configuration.checks import as_primitives
from lab.configuration.diffusion import CorruptionScheduleConfig, LinearScheduleConfig
from lab.configuration.networks import BasicUNetConfig, DenoiserConfig, UNet2DConfig
from lab.data.datasets import digits
from lab.data.labelled_images import to_float, to_pixels
from lab.data.labels import ClassVocabulary
from lab.errors import LabError
from lab.networks.registry import build_denoiser
from lab.training.checkpoints import Checkpoint
from lab.tutorial import corruption_rows, mixed, noising_rows
from tests.classes import some_classes
from tests.command import PROJECT, TINY_TUTORIAL, new_root, run
from tests.pages import contents_of

NAME = "tutorial-digits"


def test_every_step_is_an_experiment_of_its_own_or_of_an_earlier_training() -> None:
    steps = tutorial_steps(TUTORIALS[NAME][1])
    names = [f"{NAME}-{name}" for name in steps]
    for place, step in enumerate(steps.values()):
        assert step.experiment.checkpoints_of in ["", *names[:place]]
    trainings = [
        json.dumps(as_primitives(step.experiment.generator_settings()), sort_keys=True) for step in steps.values()
    ]
    assert len(set(trainings)) == sum(not step.experiment.checkpoints_of for step in steps.values())
    taken = {(step.experiment.training.epochs, step.experiment.training.batch_size) for step in steps.values()}
    assert taken == {(75, 32)}


@pytest.mark.parametrize("flag", ["--sampler.sampling-steps", "--training.checkpoints", "--guidance.method"])
def test_a_flag_that_the_steps_decide_is_refused(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(NAME, [flag, "3"])
    assert flag in capsys.readouterr().err


def test_flags_reach_every_step() -> None:
    words = shlex.split("--epochs 7 --batch-size 16 --seeds 5 --seed 3 --precision float32 --data.seed 4 --n-feat 64")
    tutorial = parse(NAME, words)
    assert isinstance(tutorial, Tutorial)
    for step in tutorial_steps(tutorial).values():
        experiment = step.experiment
        assert (experiment.training.epochs, experiment.training.batch_size, experiment.sweep.seeds) == (7, 16, 5)
        assert (experiment.seed, experiment.precision, experiment.data.seed) == (3, "float32", 4)
        assert experiment.denoiser.width == 64
    with pytest.raises(LabError, match="--n-feat is 40; it must be a multiple of 32 from 32 to 1024"):
        parse(NAME, ["--n-feat", "40"])
    with pytest.raises(LabError, match="--data.label-sets has 2 files; give one"):
        parse(NAME, ["--data.label-sets", "a.json", "b.json"])


def test_printed_losses_stand_beside_the_mean_of_the_same_steps() -> None:
    rows = PrintedLosses(steps=2, means=(0.5, 0.4, 0.3)).beside([1.0, 0.6, 0.2, 0.4, 0.1])
    assert rows["from_step"].tolist() == [1, 3, 5]
    assert rows["to_step"].tolist() == [2, 4, 6]
    assert rows["loss"].tolist()[:2] == pytest.approx([0.8, 0.3])
    assert rows["loss"].isna().tolist() == [False, False, True]
    assert rows["printed"].tolist() == [0.5, 0.4, 0.3]


def untrained(config: DenoiserConfig) -> Checkpoint:
    """Return a checkpoint of a fresh network for 8x8 images."""
    schedule = CorruptionScheduleConfig()
    weights = build_denoiser(config, (1, 8, 8), some_classes(2), schedule, seed=1).state_dict()
    return Checkpoint(config, schedule, (1, 8, 8), ClassVocabulary(("a", "b")), 1, 1, {}, weights)


BASIC = untrained(BasicUNetConfig(n_feat=8, prediction="x_0"))
CPU = torch.device("cpu")


def test_corrupted_images_mix_in_amounts_from_0_to_1() -> None:
    pixels = torch.full((8, 1, 8, 8), 255, dtype=torch.uint8)
    image, mixed_in, predicted = corruption_rows(pixels, [BASIC], CPU)
    noise = corruption_rows(torch.zeros_like(pixels), [], CPU)[1].float()  # black images under the same noise
    assert torch.equal(image, pixels)
    for place in range(8):
        amount = place / 7
        # White less black under the same noise: 255 (1 - amount), each rounded to whole pixels.
        difference = mixed_in[place].float() - noise[place]
        assert float((difference - 255 * (1 - amount)).abs().max()) <= 1
    assert torch.equal(mixed_in[0], pixels[0])
    x = to_float(mixed_in)
    with torch.no_grad():
        expected = BASIC.network(CPU)(x, torch.zeros(8, dtype=torch.long), torch.zeros(8, 2))
    assert int((predicted.int() - to_pixels(expected).int()).abs().max()) <= 1


@pytest.mark.parametrize("extra", [False, True])
def test_mixing_is_the_tutorials_loop(extra: bool) -> None:
    steps, network = 6, BASIC.network(CPU)
    ours = mixed(BASIC, 3, steps, CPU, extra_amount=extra)
    x = ours[0]
    assert float(x.abs().max()) <= 1  # uniform noise
    for i in range(steps):
        factor = 1 / (steps - i + extra)
        with torch.no_grad():
            x = x * (1 - factor) + network(x, torch.zeros(3, dtype=torch.long), torch.zeros(3, 2)) * factor
        torch.testing.assert_close(ours[i + 1], x, atol=1e-4, rtol=0)


def test_noising_shows_eight_timesteps_clipped_and_scaled() -> None:
    pixels = digits().pixels[:8]
    config = LinearScheduleConfig(timesteps=1000)
    rows, timesteps = noising_rows(pixels, config, UNet2DConfig(conditional=False, n_feat=32, widths=(1, 1)))
    assert timesteps == [0, 142, 285, 428, 570, 713, 856, 999]
    beta = [1e-4 + (0.02 - 1e-4) * t / 999 for t in range(1000)]
    noise = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    share = torch.tensor([math.prod(1 - b for b in beta[: t + 1]) for t in timesteps]).view(-1, 1, 1, 1)
    x_t = share.sqrt() * to_float(pixels) + (1 - share).sqrt() * noise
    clipped = ((x_t.clamp(-1, 1) + 1) * 127.5).round()
    scaled = ((x_t - x_t.min()) / (x_t.max() - x_t.min()) * 255).round()
    for name, expected in (("image", pixels.float()), ("noised, clipped", clipped), ("noised, scaled", scaled)):
        assert float((rows[name].float() - expected).abs().max()) <= 1
    assert rows["untrained network"].shape == (8, 1, 8, 8)


@pytest.mark.slow
def test_the_command_makes_the_table_and_the_figures(tmp_path: Path) -> None:
    root = new_root(tmp_path)
    assert run(root, NAME, *TINY_TUTORIAL) == 0
    folder = root / "reports" / NAME
    table = pd.read_csv(folder / "tutorial.csv")
    # The last two trainings have rows at two weights; real images stand last.
    assert len(table) == len(tutorial_steps(TUTORIALS[NAME][1])) + 2 + 1
    of_basic = table[table["step"].str.contains("BasicUNet")].iloc[0]
    assert (of_basic["parameters"], of_basic["network_evaluations"]) == (309_057, 5)
    # Of pixels from 0 to 1, where training has them from -1 to 1.
    losses = pd.read_csv(folder / "losses.csv").query("network == 'BasicUNet'")
    trained = pd.read_csv(root / "reports" / f"{NAME}-corruption-basic-5" / "training.csv")
    assert losses["step"].tolist() == list(range(1, trained["step"].iloc[-1] + 1))
    batches = [128] * (len(losses) - 1)
    images = pd.read_csv(root / "reports" / f"{NAME}-corruption-basic-5" / "splits.csv").set_index("split")["images"]
    batches.append(images["generator"] - sum(batches))
    assert sum(losses["loss"] * batches) / sum(batches) == pytest.approx(trained["loss"].iloc[0] / 4, abs=1e-5)
    unconditional = table["step"].str.contains("corruption|the same, [45]|without labels|held-out")
    assert table.loc[unconditional, "accuracy"].isna().all()
    assert table.loc[~unconditional, "accuracy"].notna().sum() == 6
    warned = [line for line in (folder / "tutorial.md").read_text(encoding="utf-8").splitlines() if "Warning" in line]
    assert len(warned) == 1
    assert "DDPM by hand, T = 300: this noise schedule leaves alpha\\_bar\\_T = 0.048" in warned[0]
    shown = (
        "corruption", "five_steps", "basic_40_steps", "unet2d_50_steps", "losses", "noising", "denoising_strip",
        "samples",
    )  # fmt: skip
    assert {path.name for path in folder.iterdir()} == {
        "tutorial.csv", "losses.csv", "tutorial.md", "report.html", "config.json", *(f"{name}.png" for name in shown)
    }  # fmt: skip
    on_page = contents_of(folder / "report.html")
    assert (on_page["compared"], on_page["methods"]) == ("step", list(tutorial_steps(TUTORIALS[NAME][1])))
    assert "corruption-unet2d-40, diffusers-ddpm." in on_page["introduction"][1]


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = json.loads((PROJECT / "notebooks" / "tutorial.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    script = tmp_path / "lesson.py"
    script.write_text("\n\n".join(code), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], env=os.environ | {"MPLBACKEND": "Agg"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
