"""The command `sample` with a folder of diffusers: the images are those of diffusers' own pipelines."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import run_experiments
from lab.configuration.diffusion import CosineScheduleConfig
from lab.configuration.networks import UNet2DConfig
from lab.data.labels import ClassVocabulary
from lab.diffusion.noise_source import NoiseSource
from lab.networks.registry import build_denoiser
from lab.sweep.cells import noise_seeds_of
from lab.training.checkpoints import Checkpoint, save_checkpoint
from tests.classes import some_classes

COUNT = 3


def pipeline(folder: Path, **changes: Any) -> Path:
    """Save a tiny pipeline with diffusers."""
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, **changes,
    ).eval()  # fmt: skip
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")
    diffusers.DDPMPipeline(network, scheduler).save_pretrained(folder)
    return folder


def sample(folder: Path, out: Path, *arguments: str) -> int:
    return run_experiments.main(["sample", "--pipeline", str(folder), "--out", str(out), "--device", "cpu", *arguments])


def pixels_in(out: Path, count: int = COUNT) -> np.ndarray:
    return np.stack([np.asarray(Image.open(out / f"{number}.png")) for number in range(count)]).astype(int)


def generators() -> list[torch.Generator]:
    """Return the generators of the images' noise, from which diffusers draws the same numbers."""
    return NoiseSource(noise_seeds_of("images", 0, COUNT), (3, 8, 8)).generators


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    # Two ways of rounding to 8 bits.
    return bool(np.abs(found - expected * 255).max() <= 1) and bool(expected.std() > 0.01)


def test_the_images_are_those_of_diffusers_ddpm_pipeline(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "pipeline")
    theirs = diffusers.DDPMPipeline.from_pretrained(folder)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(COUNT, generator=generators(), num_inference_steps=100, output_type="np").images
    arguments = ["--images", str(COUNT), "--sampler.kind", "diffusers_ddpm", "--sampler.sampling-steps", "100"]
    assert sample(folder, tmp_path / "out", *arguments) == 0
    assert close(pixels_in(tmp_path / "out"), expected)


def test_the_images_are_those_of_diffusers_ddim_pipeline(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "pipeline")
    theirs = diffusers.DDIMPipeline.from_pretrained(folder)
    theirs.scheduler = diffusers.DDIMScheduler.from_config(theirs.scheduler.config, timestep_spacing="trailing")
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        COUNT, generator=generators(), num_inference_steps=10, use_clipped_model_output=True, output_type="np"
    ).images
    assert (
        sample(folder, tmp_path / "out", "--images", "3", "--sampler.kind", "ddim", "--sampler.sampling-steps", "10")
        == 0
    )
    assert close(pixels_in(tmp_path / "out"), expected)


def test_an_exported_checkpoint_gives_its_own_images(tmp_path: Path) -> None:
    config, schedule = UNet2DConfig(conditional=False, n_feat=32), CosineScheduleConfig(timesteps=50)
    weights = build_denoiser(config, (3, 8, 8), some_classes(2), schedule, 3).state_dict()
    checkpoint = tmp_path / "epoch0001.pt"
    vocabulary = ClassVocabulary(("a", "b"))
    save_checkpoint(checkpoint, Checkpoint(config, schedule, (3, 8, 8), vocabulary, 1, 1, {}, weights))
    (tmp_path / "objects.json").write_text('["a", "b"]')
    exported = ["--checkpoint", str(checkpoint), "--vocabulary", str(tmp_path / "objects.json")]
    assert run_experiments.main(["export-pipeline", *exported, "--out", str(tmp_path / "pipeline")]) == 0
    arguments = ["--device", "cpu", "--images", "3", "--strip", "4"]
    out = str(tmp_path / "its own")
    assert run_experiments.main(["sample", "--checkpoint", str(checkpoint), "--out", out, *arguments]) == 0
    assert sample(tmp_path / "pipeline", tmp_path / "exported", *arguments[2:]) == 0
    for name in ("0.png", "2.png", "strip.png"):
        assert (tmp_path / "exported" / name).read_bytes() == (tmp_path / "its own" / name).read_bytes()


def test_classes_are_named_by_their_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pipeline(tmp_path / "pipeline", num_class_embeds=3)
    assert sample(folder, tmp_path / "out", "--ask", "2", "0") == 0
    images = pixels_in(tmp_path / "out", 2)
    assert sample(folder, tmp_path / "again", "--ask", "2", "1") == 0
    again = pixels_in(tmp_path / "again", 2)
    np.testing.assert_array_equal(images[0], again[0])
    assert (images[1] != again[1]).any()
    capsys.readouterr()
    assert sample(folder, tmp_path / "none", "--ask", "3") == 2
    assert "the 3 classes are '0', '1', '2'" in capsys.readouterr().err
    assert sample(folder, tmp_path / "none", "--images", "2") == 2
    assert "the imported network has no null condition; give every image one class" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("told", "arguments"),
    [
        ("--sampler.sampling-steps is 101; use at most as many as timesteps, 100", ("--sampler.sampling-steps", "101")),
        ("exactly one of --checkpoint, --pipeline is needed; given: both", ("--checkpoint", "epoch0001.pt")),
        ("--weak-checkpoint is for --checkpoint, and --pipeline is given", ("--weak-checkpoint", "epoch0001.pt")),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], told: str, arguments: tuple[str, ...]) -> None:
    folder = pipeline(tmp_path / "pipeline")
    assert sample(folder, tmp_path / "out", "--images", "2", *arguments) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_something_to_sample_from_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_experiments.main(["sample", "--images", "2", "--out", str(tmp_path / "out")]) == 2
    assert "exactly one of --checkpoint, --pipeline is needed; given: neither" in capsys.readouterr().err
    assert sample(tmp_path / "nothing", tmp_path / "out", "--images", "2") == 2
    assert "scheduler_config.json: cannot be read; a pipeline of diffusers has this file" in capsys.readouterr().err
