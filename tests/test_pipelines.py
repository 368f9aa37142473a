"""Pipelines of diffusers: written, loaded and sampled by diffusers itself, and read back."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch

from experiments.configuration import Experiment
from lab.configuration.diffusion import DiffusersDDPMConfig, DPMSolverConfig, LinearScheduleConfig
from lab.configuration.networks import ContextUnetConfig, DenoiserConfig, Prediction, UNet2DConfig
from lab.configuration.training import TrainingConfig
from lab.data.labels import ClassVocabulary
from lab.diffusion.denoising import timestep_grid
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.objectives import AsNoisePredictor
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import noise_schedule
from lab.errors import LabError
from lab.networks.registry import build_denoiser
from lab.pipelines import export_pipeline, import_pipeline
from lab.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from tests.classes import some_classes
from tests.command import PROJECT, TINY, Mistake, new_root, run, table

DIGITS = ClassVocabulary(tuple("0123456789"))
SHAPE = (1, 8, 8)


UNET2D = UNet2DConfig(conditional=False, n_feat=32, widths=(1, 1, 2))


def checkpoint(config: DenoiserConfig = UNET2D, extra_beta: bool = False) -> Checkpoint:
    schedule = LinearScheduleConfig(timesteps=100, extra_beta=extra_beta)
    network = build_denoiser(config, SHAPE, some_classes(10), schedule, 3)
    return Checkpoint(config, schedule, SHAPE, DIGITS, 2, 20, {}, network.state_dict())


def test_diffusers_samples_the_same_images(tmp_path: Path) -> None:
    ours = checkpoint()
    assert export_pipeline(ours, tmp_path / "pipeline")
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    found = pipeline(
        batch_size=2, generator=[torch.Generator().manual_seed(seed) for seed in (5, 6)],
        num_inference_steps=100, output_type="np",
    ).images  # fmt: skip

    class Theirs(NoiseSource):
        """Noise from the generators that diffusers was given."""

        def __init__(self) -> None:
            super().__init__([(5,), (6,)], SHAPE)
            self.generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]

    schedule = noise_schedule(ours.schedule)
    predictor = AsNoisePredictor(ours.network(torch.device("cpu")), "noise", schedule)
    sampler = DiffusersDDPMConfig(sampling_steps=100)
    expected = sample(predictor, schedule, sampler, torch.zeros(2, 10), Theirs())
    of_images = torch.from_numpy(found).permute(0, 3, 1, 2).reshape(expected.shape)
    torch.testing.assert_close(of_images, (expected / 2 + 0.5).clamp(0, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("prediction", ["noise", "x_0", "v"])
def test_the_round_trip_predicts_the_same(tmp_path: Path, prediction: Prediction) -> None:
    before = checkpoint(replace(UNET2D, prediction=prediction))
    export_pipeline(before, tmp_path / "pipeline")
    after = import_pipeline(tmp_path / "pipeline", DIGITS)
    save_checkpoint(tmp_path / "imported.pt", after)
    after = load_checkpoint(tmp_path / "imported.pt", DIGITS)
    assert after.denoiser.prediction == prediction
    torch.testing.assert_close(noise_schedule(after.schedule).alpha_bar, noise_schedule(before.schedule).alpha_bar)
    images = [
        sample(
            each.noise_predictor(), noise_schedule(each.schedule), DPMSolverConfig(),
            torch.zeros(2, 10), NoiseSource([(1,), (2,)], SHAPE),
        )
        for each in (before, after)
    ]  # fmt: skip
    torch.testing.assert_close(images[0], images[1], atol=1e-4, rtol=0)


def test_a_schedule_with_an_extra_beta_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="trained with --schedule.extra-beta"):
        export_pipeline(checkpoint(extra_beta=True), tmp_path / "pipeline")
    assert not (tmp_path / "pipeline").exists()


@pytest.mark.parametrize(
    "config", [ContextUnetConfig(n_feat=8), replace(UNET2D, zero_to_one=True, prediction="x_0")], ids=["kind", "pixels"]
)
def test_of_another_network_the_noise_schedule_is_written(tmp_path: Path, config: DenoiserConfig) -> None:
    assert not export_pipeline(checkpoint(config), tmp_path / "pipeline")
    assert [path.name for path in (tmp_path / "pipeline").iterdir()] == ["scheduler"]
    scheduler = diffusers.DDPMScheduler.from_pretrained(tmp_path / "pipeline" / "scheduler")
    expected = noise_schedule(LinearScheduleConfig(timesteps=100)).alpha_bar
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), expected, atol=1e-6, rtol=0)


def test_an_imported_pipeline_is_swept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = new_root(tmp_path / "root")
    export_pipeline(checkpoint(), tmp_path / "pipeline")
    vocabulary = str(PROJECT / "data" / "digits" / "objects.json")
    arguments = ["--pipeline", str(tmp_path / "pipeline"), "--name", "theirs", "--vocabulary", vocabulary]
    assert run(root, "import-pipeline", *arguments) == 0
    swept = ["digits", *TINY, "--name", "theirs", "--training.epochs", "0", "--training.checkpoints", "1"]
    assert run(root, *swept, "--sweep.guidance-weights", "0") == 0
    assert table(root, experiment="theirs")["checkpoint"].unique().tolist() == ["epoch0000"]
    assert not (root / "reports" / "theirs" / "loss.png").exists()
    capsys.readouterr()
    assert run(root, "import-pipeline", *arguments) == 2
    assert "epoch0000.pt already exists; choose another --name" in capsys.readouterr().err


def test_the_folder_of_a_training_is_no_place_for_a_pipeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_pipeline(checkpoint(), tmp_path / "pipeline")
    trained = tmp_path / "checkpoints" / "theirs" / "epoch0003.pt"
    save_checkpoint(trained, checkpoint())
    vocabulary = str(PROJECT / "data" / "digits" / "objects.json")
    arguments = ["--pipeline", str(tmp_path / "pipeline"), "--name", "theirs", "--vocabulary", vocabulary]
    assert run(tmp_path, "import-pipeline", *arguments) == 2
    assert "epoch0003.pt already exists; choose another --name" in capsys.readouterr().err
    assert list(trained.parent.glob("*.pt")) == [trained]


def test_early_folders_have_their_files_side_by_side(tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    export_pipeline(checkpoint(), folder)
    expected = import_pipeline(folder, DIGITS)
    for part in ("unet", "scheduler"):
        for path in (folder / part).iterdir():
            path.rename(folder / path.name)
        (folder / part).rmdir()
    found = import_pipeline(folder, DIGITS)
    assert (found.denoiser, found.schedule) == (expected.denoiser, expected.schedule)
    assert all(torch.equal(tensor, expected.weights[name]) for name, tensor in found.weights.items())


def test_an_imported_noise_schedule_allows_as_many_steps_as_it_has() -> None:
    trained_elsewhere = TrainingConfig(epochs=0, checkpoints=1)
    Experiment(training=trained_elsewhere, sampler=DPMSolverConfig(sampling_steps=1000))
    with pytest.raises(LabError, match="--sampler.sampling-steps is 1001; use at most"):
        timestep_grid(1000, 1001)


SPOILT: dict[str, Callable[[Path], object]] = {
    "gone": lambda folder: shutil.rmtree(folder / "scheduler"),
    "no json": lambda folder: (folder / "unet" / "config.json").write_text("{"),
    "another network": lambda folder: (folder / "unet" / "config.json").write_text(
        '{"_class_name": "UNet2DConditionModel"}'
    ),
    "another schedule": lambda folder: (folder / "scheduler" / "scheduler_config.json").write_text(
        json.dumps({"beta_schedule": "sigmoid"})
    ),
    "no weights": lambda folder: next((folder / "unet").glob("*.safetensors")).unlink(),
}
TOLD = {
    "gone": "scheduler_config.json: cannot be read",
    "no json": "config.json: cannot be read",
    "another network": "its network is UNet2DConditionModel; it must be an unconditional UNet2DModel",
    "another schedule": "its noise schedule is none of linear, squaredcos_cap_v2",
    "no weights": "unet: cannot be read",
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_cannot_be_read_is_told(tmp_path: Path, case: str, mistake: Mistake) -> None:
    export_pipeline(checkpoint(), tmp_path / "pipeline")
    SPOILT[case](tmp_path / "pipeline")
    vocabulary = str(PROJECT / "data" / "digits" / "objects.json")
    mistake(
        tmp_path / "root", TOLD[case], "import-pipeline", "--pipeline", str(tmp_path / "pipeline"), "--name", "theirs",
        "--vocabulary", vocabulary,
    )  # fmt: skip
