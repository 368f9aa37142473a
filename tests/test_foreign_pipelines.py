"""Pipelines that diffusers and its training examples write: what they hold is what diffusers itself makes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.training_utils import EMAModel

from lab.configuration.diffusion import (
    BetasScheduleConfig,
    CosineScheduleConfig,
    CyclicCosineScheduleConfig,
    DDIMConfig,
    LinearScheduleConfig,
    ScheduleConfig,
)
from lab.configuration.networks import ImportedUNet2DConfig, UNet2DConfig
from lab.data.labels import ClassVocabulary
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import noise_schedule
from lab.errors import LabError
from lab.guidance.methods import named_methods
from lab.library import sample as sampled_pixels
from lab.networks.registry import build_denoiser
from lab.pipelines import export_pipeline, import_pipeline
from lab.sweep.fit import require_known_conditions
from lab.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from tests.classes import some_classes
from tests.command import PROJECT, TINY, Mistake, new_root, run, table

DIGITS = ClassVocabulary(tuple("0123456789"))
SMALL: dict[str, Any] = {
    "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4, "add_attention": False,
}  # fmt: skip


def unet(seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    return diffusers.UNet2DModel(**(SMALL | changes)).eval()


def write(folder: Path, network: Any, name: str = "unet", scheduler: Any = None, **options: Any) -> Path:
    network.save_pretrained(folder / name, **options)
    (scheduler or diffusers.DDPMScheduler(num_train_timesteps=100)).save_pretrained(folder / "scheduler")
    return folder


def kept(folder: Path, checkpoint: Checkpoint) -> Checkpoint:
    """Return an imported checkpoint after its way through a file."""
    save_checkpoint(folder / "imported.pt", checkpoint)
    return load_checkpoint(folder / "imported.pt", checkpoint.vocabulary)


def inputs(height: int = 8, width: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(3, 1, height, width, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 50, 99])


CLASSES: dict[str, dict[str, Any]] = {
    "one embedding a class": {"num_class_embeds": 10},
    "and one of the null condition": {"num_class_embeds": 11},
    "embedded as a timestep is": {"class_embed_type": "timestep"},
    "so, with the null condition": {"class_embed_type": "timestep", "num_class_embeds": 11},
}


@pytest.mark.parametrize("case", CLASSES)
def test_classes_are_the_vocabulary_s_by_number(tmp_path: Path, case: str) -> None:
    theirs = unet(**CLASSES[case])
    ours = kept(tmp_path, import_pipeline(write(tmp_path / "pipeline", theirs), DIGITS))
    assert isinstance(ours.denoiser, ImportedUNet2DConfig)
    assert ours.denoiser.conditional
    has_null = CLASSES[case].get("num_class_embeds") == 11
    assert (0 in ours.denoiser.label_set_sizes) == has_null
    x_t, t = inputs()
    numbers = torch.tensor([7, 0, 10 if has_null else 3])
    label_sets = [("7",), ("0",), () if has_null else ("3",)]
    with torch.no_grad():
        expected = theirs(x_t, t, class_labels=numbers).sample
        others = theirs(x_t, t, class_labels=numbers.flip(0)).sample
        found = ours.noise_predictor()(x_t, t, DIGITS.conditions(label_sets))
    assert not torch.allclose(expected[0], others[0], atol=1e-4)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_class_conditional_network_samples_what_diffusers_does(tmp_path: Path) -> None:
    theirs = unet(num_class_embeds=11)
    ours = import_pipeline(write(tmp_path, theirs), DIGITS)
    scheduler = diffusers.DDIMScheduler.from_pretrained(
        tmp_path / "scheduler", timestep_spacing="trailing", clip_sample=False
    )
    scheduler.set_timesteps(10)
    noise = NoiseSource([(1,), (2,)], (1, 8, 8))
    x_t = noise.draw()
    with torch.no_grad():
        for t in scheduler.timesteps:
            x_t = scheduler.step(theirs(x_t, t, class_labels=torch.tensor([4, 10])).sample, t, x_t).prev_sample
        found = sample(
            ours.noise_predictor(), noise_schedule(ours.schedule), DDIMConfig(sampling_steps=10, clamp=False),
            DIGITS.conditions([("4",), ()]), NoiseSource([(1,), (2,)], (1, 8, 8)),
        )  # fmt: skip
    torch.testing.assert_close(found, x_t, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (
            {"num_class_embeds": 9},
            "embeds 9 classes and the vocabulary has 10; the network must have 10, or 11 with the null",
        ),
        ({"num_class_embeds": 1000}, "embeds 1000 classes and the vocabulary has 10"),
        ({"class_embed_type": "identity"}, "class_embed_type is 'identity', which leaves the embedding to a program"),
        ({"class_embed_type": "projection"}, "class_embed_type is 'projection'"),
    ],
)
def test_classes_that_have_no_place_are_refused(tmp_path: Path, classes: dict[str, Any], told: str) -> None:
    with pytest.raises(LabError, match=told):
        import_pipeline(write(tmp_path, unet(**classes)), DIGITS)


def known(checkpoint: Checkpoint, method: str, weights: tuple[float, ...], *label_sets: tuple[str, ...]) -> None:
    schedule = noise_schedule(checkpoint.schedule)
    require_known_conditions(
        checkpoint.denoiser,
        named_methods([method]),
        weights,
        DDIMConfig(sampling_steps=4),
        schedule,
        DIGITS,
        label_sets,
    )


def test_without_a_null_condition_there_is_no_guidance(tmp_path: Path) -> None:
    without = import_pipeline(write(tmp_path / "without", unet(num_class_embeds=10)), DIGITS)
    with_null = import_pipeline(write(tmp_path / "with", unet(num_class_embeds=11)), DIGITS)
    for method in ("plain", "interval", "schedule", "rescale", "projected"):
        if method not in ("rescale", "projected"):  # they compute both halves at every weight
            known(without, method, (0.0,), ("7",))
        known(with_null, method, (-1.0, 0.0, 2.0), ("7",), ())
        with pytest.raises(LabError, match=f"no null condition, which guidance method {method} at w = [02] needs"):
            known(without, method, (0.0, 2.0), ("7",))
    # Independent-condition guidance gives the network other classes instead.
    known(without, "independent", (0.0, 2.0), ("7",))
    guided = [sampled_pixels(without, [["7"]], w, guidance="independent", progress=False) for w in (0.0, 2.0)]
    assert not torch.equal(*guided)
    # Outside of every noise level that is sampled at, the interval method does not guide.
    known(without, "interval:low=1000,high=2000", (2.0,), ("7",))
    for method in ("plain", "interval"):
        with pytest.raises(LabError, match="a label set has 2 classes, and the network takes 1 an image"):
            known(with_null, method, (0.0,), ("7", "8"))
    known(with_null, "composed", (0.0, 2.0), ("7", "8"))
    with pytest.raises(LabError, match="the imported network has no null condition"):
        sampled_pixels(without, [["7"]], 2.0, sampler=DDIMConfig(sampling_steps=2), progress=False)
    with pytest.raises(LabError, match="the imported network takes one class an image"):
        sampled_pixels(without, [["7", "8"]], 0.0, sampler=DDIMConfig(sampling_steps=2), progress=False)
    assert sampled_pixels(without, [["7"]], 0.0, progress=False).shape == (1, 1, 8, 8)


def test_an_unconditional_network_takes_any_label_set(tmp_path: Path) -> None:
    known(import_pipeline(write(tmp_path, unet()), DIGITS), "plain", (-1.0, 2.0), ("7", "8"), ())


SCHEDULERS: dict[str, tuple[dict[str, Any], ScheduleConfig]] = {
    "linear": ({}, LinearScheduleConfig(timesteps=100)),
    "its ends": (
        {"beta_start": 1e-3, "beta_end": 0.3},
        LinearScheduleConfig(timesteps=100, beta_start=1e-3, beta_end=0.3),
    ),
    "cosine": ({"beta_schedule": "squaredcos_cap_v2"}, CosineScheduleConfig(timesteps=100)),
    "a list": (
        {"trained_betas": [0.001 * t for t in range(1, 101)]},
        BetasScheduleConfig(betas=tuple(0.001 * t for t in range(1, 101))),
    ),
    "rescaled": ({"rescale_betas_zero_snr": True}, LinearScheduleConfig(timesteps=100, zero_terminal=True)),
    "a list, rescaled": (
        {"trained_betas": [0.001 * t for t in range(1, 101)], "rescale_betas_zero_snr": True},
        BetasScheduleConfig(betas=tuple(0.001 * t for t in range(1, 101)), zero_terminal=True),
    ),
}


@pytest.mark.parametrize("case", SCHEDULERS)
def test_noise_schedules(tmp_path: Path, case: str) -> None:
    settings, expected = SCHEDULERS[case]
    theirs = diffusers.DDPMScheduler(num_train_timesteps=100, prediction_type="v_prediction", **settings)
    ours = kept(tmp_path, import_pipeline(write(tmp_path / "pipeline", unet(), scheduler=theirs), DIGITS))
    assert ours.schedule == expected
    assert ours.denoiser.prediction == "v"
    # The lab's last timestep keeps a thousandth of the image where theirs keeps nothing.
    tolerance = 1e-3 if "rescaled" in case else 1e-5
    torch.testing.assert_close(
        noise_schedule(ours.schedule).alpha.float(), theirs.alphas_cumprod.sqrt(), atol=tolerance, rtol=0
    )


@pytest.mark.parametrize("case", SCHEDULERS)
def test_on_every_noise_schedule_the_images_are_diffusers_own(tmp_path: Path, case: str) -> None:
    network, settings = unet(), SCHEDULERS[case][0] | {"prediction_type": "v_prediction", "clip_sample": False}
    scheduler = diffusers.DDIMScheduler(num_train_timesteps=100, timestep_spacing="trailing", **settings)
    ours = import_pipeline(write(tmp_path, network, scheduler=scheduler), DIGITS)
    scheduler.set_timesteps(10)
    x_t = NoiseSource([(1,), (2,)], (1, 8, 8)).draw()
    with torch.no_grad():
        for t in scheduler.timesteps:
            x_t = scheduler.step(network(x_t, t).sample, t, x_t).prev_sample
        found = sample(
            ours.noise_predictor(), noise_schedule(ours.schedule), DDIMConfig(sampling_steps=10, clamp=False),
            torch.zeros(2, 10), NoiseSource([(1,), (2,)], (1, 8, 8)),
        )  # fmt: skip
    torch.testing.assert_close(found, x_t, atol=3e-3 if "rescaled" in case else 1e-4, rtol=0)


@pytest.mark.parametrize(
    "schedule",
    [
        CyclicCosineScheduleConfig(timesteps=60),
        LinearScheduleConfig(timesteps=60, zero_terminal=True),
        CosineScheduleConfig(timesteps=20, zero_terminal=True),
        BetasScheduleConfig(betas=tuple(0.002 * t for t in range(1, 61))),
    ],
)
def test_what_the_lab_writes_as_a_list_of_betas_it_reads(tmp_path: Path, schedule: ScheduleConfig) -> None:
    config = UNet2DConfig(conditional=False, n_feat=32)
    weights = build_denoiser(config, (1, 8, 8), some_classes(10), schedule, 3).state_dict()
    before = Checkpoint(config, schedule, (1, 8, 8), DIGITS, 1, 1, {}, weights)
    assert export_pipeline(before, tmp_path / "pipeline")
    after = kept(tmp_path, import_pipeline(tmp_path / "pipeline", DIGITS))
    assert after.schedule.kind == "betas"
    torch.testing.assert_close(noise_schedule(after.schedule).alpha, noise_schedule(schedule).alpha)
    images = [
        sample(
            each.noise_predictor(), noise_schedule(each.schedule), DDIMConfig(sampling_steps=5),
            torch.zeros(2, 10), NoiseSource([(1,), (2,)], (1, 8, 8)),
        )
        for each in (before, after)
    ]  # fmt: skip
    torch.testing.assert_close(images[0], images[1], atol=1e-4, rtol=0)
    assert export_pipeline(after, tmp_path / "again")
    again = import_pipeline(tmp_path / "again", DIGITS)
    torch.testing.assert_close(noise_schedule(again.schedule).alpha, noise_schedule(after.schedule).alpha)


SPOILT_SCHEDULERS: dict[str, dict[str, Any]] = {
    "it has 3 timesteps and 2 betas": {"trained_betas": [0.1, 0.2], "num_train_timesteps": 3},
    "beta 1 is 1.0; it must be between 0 and 1": {"trained_betas": [0.1, 1.0], "num_train_timesteps": 2},
    "its noise schedule cannot be used": {"trained_betas": 7},
    "cannot be used ": {"rescale_betas_zero_snr": "yes"},
    "its noise schedule is none of linear, squaredcos_cap_v2, nor a list of betas": {"beta_schedule": "scaled_linear"},
    "FlowMatchEulerDiscreteScheduler has no betas": {"_class_name": "FlowMatchEulerDiscreteScheduler"},
    "its scheduler nothing has no betas": {"_class_name": "nothing"},
}


@pytest.mark.parametrize("told", SPOILT_SCHEDULERS)
def test_schedulers_that_the_lab_does_not_have_are_refused(tmp_path: Path, told: str) -> None:
    file = write(tmp_path, unet()) / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | SPOILT_SCHEDULERS[told]))
    with pytest.raises(LabError, match=told):
        import_pipeline(tmp_path, DIGITS)


def test_images_need_not_be_square(tmp_path: Path) -> None:
    theirs = unet(sample_size=(8, 12))
    ours = kept(tmp_path, import_pipeline(write(tmp_path / "pipeline", theirs), DIGITS))
    assert ours.image_shape == (1, 8, 12)
    x_t, t = inputs(8, 12)
    with torch.no_grad():
        found = ours.noise_predictor()(x_t, t, torch.zeros(3, 10))
        torch.testing.assert_close(found, theirs(x_t, t).sample, atol=1e-5, rtol=0)
    assert sampled_pixels(ours, [[]], progress=False).shape == (1, 1, 8, 12)
    assert export_pipeline(ours, tmp_path / "again")
    assert import_pipeline(tmp_path / "again", DIGITS).image_shape == (1, 8, 12)


@pytest.mark.parametrize("size", [None, [8], [8, 8, 8], [8, 8.5], [0, 8], True])
def test_other_sizes_are_refused(tmp_path: Path, size: object) -> None:
    file = write(tmp_path, unet()) / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sample_size": size}))
    with pytest.raises(LabError, match="its sample_size is"):
        import_pipeline(tmp_path, DIGITS)


@pytest.mark.parametrize("safe", [True, False])
def test_half_precision_is_read_where_there_is_nothing_else(tmp_path: Path, safe: bool) -> None:
    exact, suffix = unet(), "safetensors" if safe else "bin"
    half = unet().half()
    ours = import_pipeline(write(tmp_path, half, variant="fp16", safe_serialization=safe), DIGITS)
    assert ours.settings["weights"] == f"unet/diffusion_pytorch_model.fp16.{suffix}"
    assert {tensor.dtype for tensor in ours.weights.values()} == {torch.float32}
    for name, tensor in half.state_dict().items():
        assert torch.equal(ours.weights[f"unet.{name}"], tensor.float())
    write(tmp_path, exact, safe_serialization=safe)
    both = import_pipeline(tmp_path, DIGITS)
    assert both.settings["weights"] == f"unet/diffusion_pytorch_model.{suffix}"
    for name, tensor in exact.state_dict().items():
        assert torch.equal(both.weights[f"unet.{name}"], tensor)


def test_weights_in_parts_are_read_by_their_index(tmp_path: Path) -> None:
    whole = unet()
    ours = import_pipeline(write(tmp_path, whole, max_shard_size="20KB"), DIGITS)
    assert ours.settings["weights"] == "unet/diffusion_pytorch_model.safetensors.index.json"
    for name, tensor in whole.state_dict().items():
        assert torch.equal(ours.weights[f"unet.{name}"], tensor)


def with_ema(folder: Path) -> tuple[Any, Any]:
    """Write what diffusers' training example leaves: unet/, and unet_ema/ with settings of the EMA in its config."""
    trained, averaged = unet(1), unet(2)
    trained.save_pretrained(folder / "unet")
    ema = EMAModel(averaged.parameters(), model_cls=diffusers.UNet2DModel, model_config=averaged.config)
    ema.save_pretrained(folder / "unet_ema")
    return trained, averaged


LEFT: dict[str, Callable[[Path], Path]] = {
    "the output folder": lambda folder: folder,
    "a checkpoint of it": lambda folder: folder / "checkpoint-500",
}


@pytest.mark.parametrize("case", LEFT)
def test_of_a_training_example_the_ema_copy_is_read(tmp_path: Path, case: str) -> None:
    folder = LEFT[case](tmp_path)
    _, averaged = with_ema(folder)
    diffusers.DDPMScheduler(num_train_timesteps=100).save_pretrained(tmp_path / "scheduler")
    ours = kept(tmp_path, import_pipeline(folder, DIGITS))
    assert ours.settings["weights"] == "unet_ema/diffusion_pytorch_model.safetensors"
    for name, tensor in averaged.state_dict().items():
        assert torch.equal(ours.weights[f"unet.{name}"], tensor)


VOCABULARY = str(PROJECT / "data" / "digits" / "objects.json")


@pytest.mark.parametrize(
    ("classes", "condition", "more"),
    [
        ({}, "without a condition", ""),
        ({"num_class_embeds": 11}, "class-conditional with the null condition", ""),
        ({"num_class_embeds": 10}, "class-conditional without the null condition", " --sweep.guidance-weights 0"),
    ],
)
def test_the_command_says_what_it_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: dict[str, Any], condition: str, more: str
) -> None:
    write(tmp_path / "pipeline", unet(**classes))
    arguments = ["--pipeline", str(tmp_path / "pipeline"), "--name", "theirs", "--vocabulary", VOCABULARY]
    assert run(tmp_path, "import-pipeline", *arguments) == 0
    told = capsys.readouterr().out.splitlines()
    weights = tmp_path / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors"
    assert told[0] == f"{weights}: read, {condition}"
    assert told[1].endswith(
        f"epoch0000.pt: sweep it with --name theirs --training.epochs 0 --training.checkpoints 1{more}"
    )


@pytest.mark.long
def test_a_class_conditional_pipeline_is_swept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: Mistake
) -> None:
    root = new_root(tmp_path / "root")
    scheduler = diffusers.DDPMScheduler(trained_betas=[0.001 * t for t in range(1, 101)], num_train_timesteps=100)
    write(tmp_path / "pipeline", unet(num_class_embeds=10), scheduler=scheduler)
    arguments = ["--pipeline", str(tmp_path / "pipeline"), "--name", "theirs", "--vocabulary", VOCABULARY]
    assert run(root, "import-pipeline", *arguments) == 0
    swept = ["digits", *TINY, "--name", "theirs", "--training.epochs", "0", "--training.checkpoints", "1"]
    assert run(root, *swept, "--sweep.guidance-weights", "0", "2") == 2
    assert "no null condition, which guidance method plain at w = 2 needs" in capsys.readouterr().err
    assert not (root / "checkpoints" / "theirs" / "evaluator.pt").exists()
    assert run(root, *swept, "--sweep.guidance-weights", "0") == 0
    assert table(root, experiment="theirs")["guidance_weight"].tolist() == [0.0] * len(table(root, experiment="theirs"))
