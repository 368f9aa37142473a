"""Unconditional experiments: each preset as a command, and the formulas and figures of the documents they follow."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import run_experiments
from evaluator.reporting.unconditional import first_losses, mean_losses
from experiments.unconditional.presets import UNCONDITIONAL_PRESETS
from lab.configuration.diffusion import DDIMConfig, LinearScheduleConfig
from lab.configuration.networks import ContextUnetConfig
from lab.data.labelled_images import to_float, to_pixels
from lab.data.labels import ClassVocabulary
from lab.diffusion.noise_source import NoiseSource
from lab.errors import LabError
from lab.library import bring_back
from lab.networks.registry import build_denoiser
from lab.sweep.cells import noise_seeds_of
from lab.training.checkpoints import Checkpoint, read_checkpoint
from tests.classes import some_classes
from tests.command import Mistake, run, table

BY_HAND = shlex.split(
    "--denoiser.n-feat 8 --training.epochs 6 --training.batch-size 512 --schedule.timesteps 30 "
    "--sampler.sampling-steps 30 --images 5 --bring-back-from 3 29 --pictures.steps 3 15 30"
)
FOLDER = shlex.split(
    "--data.dataset image_folder --data.image-size 8 --denoiser.n-feat 32 --training.epochs 4 --training.batch-size 4 "
    "--schedule.timesteps 30 --sampler.sampling-steps 30 --pictures.steps 1 15 30 --pictures.grid 9 --images 9"
)


def folder_of_pictures(folder: Path, count: int = 10) -> Path:
    """Write pictures into a folder and a folder in it, with a file between them that is none."""
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / ("in here" if number % 2 else ".") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)
    (folder / "notes.txt").write_text("no picture")
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_networks_are_those_of_the_documents() -> None:
    parameters = {"cifar10-ddpm": 4_654_723, "cifar10-ddpm-large": 18_536_323}
    for name, expected in parameters.items():
        config = UNCONDITIONAL_PRESETS[name][1]
        assert config.precision == "float32"
        with torch.device("meta"):
            network = build_denoiser(config.denoiser, (3, 32, 32), some_classes(10), config.schedule, 0)
        assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_by_hand_the_losses_and_pictures_are_those_of_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: Mistake
) -> None:
    assert run(tmp_path, "ddpm-by-hand", *BY_HAND) == 0
    printed = capsys.readouterr().out.splitlines()
    losses = table(tmp_path, "losses", "ddpm-by-hand")["loss"]
    # The last of four batches is smaller, and left out.
    assert 1797 // 512 == 3
    assert len(losses) == 6 * 3
    assert table(tmp_path, "training", "ddpm-by-hand")["step"].tolist() == [3, 6, 9, 12, 15, 18]
    # The first step of the epochs 0 and 5, counted from 0.
    assert [line for line in printed if ": loss " in line] == [
        f"after 0 epochs, step 1: loss {losses[0]:.4f}",
        f"after 5 epochs, step 16: loss {losses[15]:.4f}",
    ]
    first = table(tmp_path, "first_losses", "ddpm-by-hand")
    assert first["epochs_done"].tolist() == [0, 5]
    assert first["loss"].tolist() == [losses[0], losses[15]]
    report = tmp_path / "reports" / "ddpm-by-hand"
    assert names(report) == {
        "losses.csv", "first_losses.csv", "training.csv", "loss.png", "samples.png", "denoising_strip.png",
        "brought_back.png", "images", "report.md", "config.json",
    }  # fmt: skip
    assert names(report / "images") == {f"{number}.png" for number in range(5)}
    page = (report / "report.md").read_text()
    assert all(f"]({name})" in page for name in names(report) if name.endswith(".png"))

    checkpoints = tmp_path / "checkpoints" / "ddpm-by-hand"
    assert {path.name for path in checkpoints.glob("*.pt")} == {"epoch0006.pt", "training.pt"}
    asked = ["--images", "8", "--strip", "10", "--sampler.sampling-steps", "9", "--out", str(tmp_path / "out")]
    checkpoint = checkpoints / "epoch0006.pt"
    assert run_experiments.main(["sample", "--checkpoint", str(checkpoint), *asked]) == 0
    assert names(tmp_path / "out") == {*(f"{number}.png" for number in range(8)), "grid.png", "strip.png"}

    # Again: nothing is trained, and the samples are the same.
    pictures = {path.name: path.read_bytes() for path in (report / "images").iterdir()}
    capsys.readouterr()
    assert run(tmp_path, "ddpm-by-hand", *BY_HAND) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["checkpoint", "report"]
    assert pictures == {path.name: path.read_bytes() for path in (report / "images").iterdir()}
    # What is no longer chosen goes, and what is chosen comes.
    assert (
        run(tmp_path, "ddpm-by-hand", *BY_HAND, "--first-loss-every", "0", "--bring-back-from", "--pictures.grid", "2")
        == 0
    )
    assert not names(report) & {"first_losses.csv", "brought_back.png"}
    assert names(report / "denoising")
    assert run(tmp_path, "ddpm-by-hand", *BY_HAND) == 0
    assert names(report) >= {"first_losses.csv", "brought_back.png"}
    assert not names(report / "denoising")
    # Longer: it goes on.
    assert run(tmp_path, "ddpm-by-hand", *BY_HAND, "--training.epochs", "7") == 0
    longer = table(tmp_path, "losses", "ddpm-by-hand")["loss"]
    assert len(longer) == 7 * 3
    assert longer[:18].tolist() == losses.tolist()
    mistake(tmp_path, "take as many, or another --name", "ddpm-by-hand", *BY_HAND)
    longer_by = [*BY_HAND, "--training.epochs", "7"]
    mistake(tmp_path, "made with other settings: seed is 0 there, 1 here", "ddpm-by-hand", *longer_by, "--seed", "1")
    other = ["--data.folder", str(tmp_path / "out"), "--name", "ddpm-by-hand", "--training.epochs", "7"]
    mistake(tmp_path, "made with other settings: ", "cifar10-ddpm", *FOLDER, *other)


def test_by_hand_any_folder_of_pictures_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photograph = folder_of_pictures(tmp_path / "pictures") / "0.png"
    arguments = [
        *BY_HAND, "--data.dataset", "image_folder", "--data.image-size", "8", "--data.folder", "pictures",
        "--training.batch-size", "4", "--training.epochs", "1",
    ]  # fmt: skip
    assert run(tmp_path, "ddpm-by-hand", *arguments, "--bring-back", str(photograph)) == 0
    assert "skipped 1 file of other endings" in capsys.readouterr().err
    assert len(table(tmp_path, "losses", "ddpm-by-hand")) == 10 // 4
    assert "(0.png)" in (tmp_path / "reports" / "ddpm-by-hand" / "report.md").read_text()
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "ddpm-by-hand" / "epoch0001.pt")
    assert checkpoint.image_shape == (3, 8, 8)
    assert len(checkpoint.vocabulary) == 1


@pytest.mark.long
@pytest.mark.parametrize(("preset", "levels"), [("cifar10-ddpm", 3), ("cifar10-ddpm-large", 4)])
def test_with_diffusers_on_a_folder_of_pictures(tmp_path: Path, preset: str, levels: int) -> None:
    folder_of_pictures(tmp_path / "pictures")
    arguments = [*FOLDER, "--data.folder", "pictures"]
    assert run(tmp_path, preset, *arguments) == 0
    losses = table(tmp_path, "losses", preset)["loss"]
    assert len(losses) == 4 * 3  # the last batch of an epoch is smaller, and taken
    means = table(tmp_path, "mean_losses", preset)
    assert means["epoch"].tolist() == [2, 4]
    assert means["mean_loss"].tolist() == pytest.approx([losses[3:6].mean(), losses[9:12].mean()])
    report, checkpoints = tmp_path / "reports" / preset, tmp_path / "checkpoints" / preset
    assert names(report / "denoising") == {"step0001.png", "step0015.png", "step0030.png"}
    assert not (report / "brought_back.png").exists()
    kept = sorted(path.name for path in checkpoints.glob("epoch*.pt"))
    assert kept == [f"epoch000{epoch}.pt" for epoch in (1, 2, 3, 4)]
    newest = read_checkpoint(checkpoints / kept[-1])
    assert any(f"down_blocks.{levels - 1}." in name for name in newest.weights)
    assert not any(f"down_blocks.{levels}." in name for name in newest.weights)

    # Its pipeline gives the images of the report.
    (tmp_path / "objects.json").write_text('["image"]')
    exported = ["--checkpoint", str(checkpoints / kept[-1]), "--vocabulary", str(tmp_path / "objects.json")]
    assert run_experiments.main(["export-pipeline", *exported, "--out", str(tmp_path / "pipeline")]) == 0
    sampled = ["--images", "9", "--sampler.kind", "diffusers_ddpm", "--sampler.sampling-steps", "30"]
    sampled += ["--precision", "float32"]
    out = ["--pipeline", str(tmp_path / "pipeline"), "--out", str(tmp_path / "out")]
    assert run_experiments.main(["sample", *out, *sampled]) == 0
    for number in range(9):
        name = f"{number}.png"
        assert (tmp_path / "out" / name).read_bytes() == (report / "images" / name).read_bytes()


def by_hand(checkpoint: Checkpoint, x_0: torch.Tensor, start: int) -> list[torch.Tensor]:
    """Noise an image to a timestep and denoise it with the posterior's mean and variance, as the document does."""
    config = checkpoint.schedule
    assert isinstance(config, LinearScheduleConfig)
    betas = torch.linspace(config.beta_start, config.beta_end, config.timesteps, dtype=torch.float64)
    alphas = 1 - betas
    alphas_cumprod = alphas.cumprod(0)
    previous = torch.cat((torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]))
    posterior_variance = betas * (1 - previous) / (1 - alphas_cumprod)
    network = checkpoint.network(torch.device("cpu"))
    source = NoiseSource(noise_seeds_of("bring back", 0, 1), checkpoint.image_shape)
    x = alphas_cumprod[start].sqrt().float() * x_0 + (1 - alphas_cumprod[start]).sqrt().float() * source.draw()
    found = [x]
    with torch.no_grad():
        for t in range(start, -1, -1):
            noise = network(x, torch.tensor([t]), torch.zeros(1, len(checkpoint.vocabulary)))
            mean = (x - float(betas[t] / (1 - alphas_cumprod[t]).sqrt()) * noise) / float(alphas[t].sqrt())
            x = mean if t == 0 else mean + float(posterior_variance[t].sqrt()) * source.draw()
    return [*found, x]


def test_a_picture_is_brought_back_by_the_document_s_formulas() -> None:
    schedule = LinearScheduleConfig(timesteps=40, beta_start=1e-4, beta_end=0.02)
    config, shape = ContextUnetConfig(n_feat=8), (1, 8, 8)
    weights = build_denoiser(config, shape, some_classes(2), schedule, 0).state_dict()
    checkpoint = Checkpoint(config, schedule, shape, ClassVocabulary(("a", "b")), 1, 1, {}, weights)
    image = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    timesteps, sampler = (0, 5, 20, 39), DDIMConfig(sampling_steps=40, eta=1, clamp=False)
    rows = bring_back(checkpoint, image, timesteps, sampler=sampler, device="cpu", progress=False)
    assert rows.shape == (4, 2, *shape)
    for row, start in zip(rows, timesteps, strict=True):
        for found, expected in zip(row, by_hand(checkpoint, to_float(image[None]), start), strict=True):
            assert (found.int() - to_pixels(expected)[0].int()).abs().max() <= 1
    with pytest.raises(LabError, match="timesteps contains -1; it must be from 0 to 39"):
        bring_back(checkpoint, image, [-1], sampler=sampler, device="cpu", progress=False)
    with pytest.raises(LabError, match=r"the image has shape \(1, 8, 4\)"):
        bring_back(checkpoint, image[..., :4], [5], sampler=sampler, device="cpu", progress=False)
    # From t = 0 on, next to nothing has to be brought back.
    assert (rows[0, 1].int() - image.int()).abs().float().mean() < 3


def test_every_fifth_epoch_s_first_step_and_every_second_epoch_s_mean() -> None:
    losses, steps = [float(step) for step in range(1, 45)], [4 * epoch for epoch in range(1, 12)]
    first = first_losses(losses, steps, 5)
    assert first.to_dict("list") == {"epochs_done": [0, 5, 10], "step": [1, 21, 41], "loss": [1.0, 21.0, 41.0]}
    means = mean_losses(losses, steps, 2)
    assert means["epoch"].tolist() == [2, 4, 6, 8, 10]
    assert means["mean_loss"].tolist() == [np.mean(losses[4 * (epoch - 1) : 4 * epoch]) for epoch in (2, 4, 6, 8, 10)]


@pytest.mark.parametrize(
    ("told", "preset", "arguments"),
    [
        ("--bring-back-from contains 30; it must be from 0 to 29", "ddpm-by-hand", "--bring-back-from 30"),
        ("--bring-back needs timesteps to start from", "ddpm-by-hand", "--bring-back x.png --bring-back-from"),
        ("does not work with --sampler.kind diffusers_ddpm", "ddpm-by-hand", "--sampler.kind diffusers_ddpm"),
        ("x.png: cannot be used as an image (no such file)", "ddpm-by-hand", "--bring-back x.png"),
        ("add --data.image-size, the side in", "ddpm-by-hand", "--data.dataset image_folder --data.folder x"),
        ("--training.context-dropout is 0.1; it must be 1 here", "ddpm-by-hand", "--training.context-dropout 0.1"),
        ("--training.score-every needs an evaluator", "ddpm-by-hand", "--training.score-every 1"),
        ("--training.power-emas is for --sweep.ema-lengths", "ddpm-by-hand", "--training.power-emas 0.05 0.1"),
        ("--pictures.grid is 6; it must be at most --images, which is 5", "ddpm-by-hand", "--pictures.grid 6"),
        ("--pictures.steps contains 31; it must be from 0 to", "ddpm-by-hand", "--pictures.steps 31"),
        ("add --data.folder, where the images are", "ddpm-by-hand", "--data.dataset image_folder"),
        ("but digits come with a package; remove it, or add --data", "ddpm-by-hand", "--data.folder pictures"),
        ("--training.drop-last leaves no batch of 2000", "ddpm-by-hand", "--training.batch-size 2000"),
        ("no images (.png, ", "cifar10-ddpm", "--data.folder empty"),
        ("missing: cannot read this folder of images", "cifar10-ddpm", "--data.folder missing"),
    ],
)
def test_mistakes(tmp_path: Path, mistake: Mistake, told: str, preset: str, arguments: str) -> None:
    (tmp_path / "empty").mkdir()
    base = BY_HAND if preset == "ddpm-by-hand" else FOLDER
    mistake(tmp_path, told, preset, *base, *shlex.split(arguments))


def test_the_presets_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_experiments.main(["digits", "--help"])
    shown = capsys.readouterr().out
    for name, (_, experiment) in UNCONDITIONAL_PRESETS.items():
        assert f"{name}:" in shown
        assert experiment.name == name
