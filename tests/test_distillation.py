"""Distillation: the target is the guided prediction, and a student starts as its teacher, learns it and costs half."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lab
from experiments.configuration import Experiment
from experiments.distillation import of_student
from experiments.play.page import contents
from experiments.play.session import Session
from experiments.selection import require_lift
from lab.configuration.diffusion import CosineScheduleConfig, DDIMConfig
from lab.configuration.distillation import DistillationConfig
from lab.configuration.networks import ContextUnetConfig, DistilledUnetConfig, Prediction, UNet2DConfig
from lab.configuration.sweep import SweepConfig
from lab.configuration.training import TrainingConfig
from lab.data.datasets import digits
from lab.data.labelled_images import to_float
from lab.data.labels import ClassVocabulary
from lab.diffusion.denoising import timestep_grid
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.objectives import NOISES, AsNoisePredictor
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import noise_schedule
from lab.errors import LabError
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.guidance.distilled import DistilledGuidance, DistilledMethod
from lab.guidance.effective_scale import EffectiveScale, effective_scale
from lab.guidance.evaluation_counter import EvaluationCounter
from lab.guidance.method import Unguided
from lab.machine.computation import Computation
from lab.networks.distilled_unet import with_weight
from lab.networks.registry import build_denoiser
from lab.training.checkpoints import Checkpoint, read_checkpoint, save_checkpoint
from lab.training.distillation import Teacher, distilled_recipe, student_of
from lab.training.recipe import Recipe
from lab.training.runs import TrainingRun
from lab.training.trainer import Trainer
from lab.types import Images
from run_experiments import main as lab_command
from tests.command import TINY, Mistake, new_root, run, table

IMAGES = digits().subset(torch.arange(90))
SMALL = ContextUnetConfig(n_feat=8)
SCHEDULE = CosineScheduleConfig(timesteps=100)
CONFIG = TrainingConfig(epochs=2, batch_size=40, warmup_steps=2, decay="none", checkpoints=2)


def a_teacher(config: ContextUnetConfig = SMALL, seed: int = 0) -> Checkpoint:
    """A checkpoint of random weights, none of them zero, whose two predictions differ."""
    network = build_denoiser(config, IMAGES.image_shape, IMAGES.vocabulary.names, SCHEDULE, seed)
    random = torch.Generator().manual_seed(seed)
    weights = {
        name: weights + 0.1 * torch.randn(weights.shape, generator=random)
        for name, weights in network.state_dict().items()
    }
    return Checkpoint(config, SCHEDULE, IMAGES.image_shape, IMAGES.vocabulary, 7, 70, {}, weights)


def some_inputs(images: int = 30) -> tuple[Images, torch.Tensor, torch.Tensor]:
    """x_t of real images at every noise level, the timesteps and the conditions."""
    schedule, random = noise_schedule(SCHEDULE), torch.Generator().manual_seed(3)
    x_0 = to_float(IMAGES.pixels[:images])
    timesteps = torch.linspace(0, SCHEDULE.timesteps - 1, images).long()
    return schedule.noised(x_0, timesteps, schedule.noise(x_0.shape, random)), timesteps, IMAGES.conditions[:images]


@pytest.mark.parametrize("prediction", ["noise", "x_0", "v"])
@pytest.mark.parametrize("weight", [-0.5, 0.0, 0.3, 4.0])
def test_the_target_is_plain_guidance_in_what_the_network_predicts(prediction: Prediction, weight: float) -> None:
    checkpoint, schedule = a_teacher(replace(SMALL, prediction=prediction)), noise_schedule(SCHEDULE)
    x_t, timesteps, conditions = some_inputs()
    x_t, conditions = x_t.double(), conditions.double()
    plain = AsNoisePredictor(checkpoint.network(torch.device("cpu")).double(), prediction, schedule)
    guided = ClassifierFreeGuidance(plain, weight)(x_t, timesteps, conditions)
    teacher = Teacher(checkpoint, (-1.0, 4.0), Computation())
    teacher.computed.network.double()  # type: ignore[attr-defined]  # a module
    target = teacher.target(x_t, timesteps, with_weight(conditions, weight))
    noise = NOISES[prediction](x_t, target, *schedule.amounts(timesteps, x_t))
    torch.testing.assert_close(noise, guided, atol=1e-9, rtol=1e-6)
    assert weight == 0 or not torch.allclose(guided, plain(x_t, timesteps, conditions), atol=1e-3)


def test_every_image_has_a_w_of_its_own_which_covers_the_range() -> None:
    teacher = Teacher(a_teacher(), (-0.5, 2.0), Computation())
    conditions = IMAGES.conditions.repeat(20, 1)
    given = teacher.with_drawn_weights(conditions, torch.Generator().manual_seed(1))
    again = teacher.with_drawn_weights(conditions, torch.Generator().manual_seed(1))
    assert torch.equal(given, again)
    assert torch.equal(given[:, :-1], conditions)
    weights = given[:, -1]
    assert -0.5 <= weights.min() < -0.45
    assert 1.95 < weights.max() <= 2.0
    # The mean and the variance of an even distribution, within four standard errors.
    error = 2.5 / (12 * len(weights)) ** 0.5
    assert abs(weights.mean() - 0.75) < 4 * error
    assert weights.var() == pytest.approx(2.5**2 / 12, rel=0.1)


@pytest.mark.parametrize(
    "config",
    [SMALL, replace(SMALL, conditioning="blocks", bottleneck="map", attention="objects"), replace(SMALL, norm="batch")],
)
def test_a_student_starts_as_its_conditional_teacher_at_every_w_to_the_bit(config: ContextUnetConfig) -> None:
    teacher = a_teacher(config)
    student = Trainer(distilled_recipe(teacher), IMAGES).checkpoint().noise_predictor()
    x_t, timesteps, conditions = some_inputs()
    conditional = teacher.noise_predictor()(x_t, timesteps, conditions)
    for weight in (0.0, 0.7, 4.0):
        assert torch.equal(DistilledGuidance(student, weight)(x_t, timesteps, conditions), conditional)
    assert torch.equal(student(x_t, timesteps, conditions), conditional)
    null = torch.zeros_like(conditions)
    assert torch.equal(student(x_t, timesteps, null), teacher.noise_predictor()(x_t, timesteps, null))


def test_after_a_step_w_has_its_part_and_no_w_is_w_of_0() -> None:
    trainer = Trainer(distilled_recipe(a_teacher(), training=replace(CONFIG, ema_decay=0.0, warmup_steps=0)), IMAGES)
    for _ in trainer.steps():
        pass
    student, inputs = trainer.checkpoint().noise_predictor(), some_inputs()
    at = {weight: student(inputs[0], inputs[1], with_weight(inputs[2], weight)) for weight in (0.0, 1.0, 4.0)}
    assert torch.equal(student(*inputs), at[0.0])
    assert not torch.allclose(at[0.0], at[1.0], atol=1e-4)
    assert not torch.allclose(at[1.0], at[4.0], atol=1e-4)


@pytest.mark.slow
def test_training_brings_the_student_nearer_to_its_guided_teacher_on_images_that_it_has_not_seen() -> None:
    every = digits()
    images, unseen = every.subset(torch.arange(600)), every.subset(torch.arange(1500, 1700))
    config = TrainingConfig(epochs=15, batch_size=64, learning_rate=4e-3)
    teacher = lab.train(images, Recipe(replace(SMALL, prediction="v"), SCHEDULE, config), progress=False)
    recipe = distilled_recipe(teacher, training=replace(config, epochs=20, learning_rate=2e-3))
    untrained = Trainer(recipe, images).checkpoint().noise_predictor()
    student = lab.train(images, recipe, progress=False).noise_predictor()
    schedule, random = noise_schedule(SCHEDULE), torch.Generator().manual_seed(3)
    x_0, timesteps = to_float(unseen.pixels), torch.randint(10, 90, (200,), generator=random)
    x_t = schedule.noised(x_0, timesteps, schedule.noise(x_0.shape, random))
    for weight in (1.37, 2.71, 3.93):
        guided = ClassifierFreeGuidance(teacher.noise_predictor(), weight)(x_t, timesteps, unseen.conditions)
        before, after = (
            (DistilledGuidance(each, weight)(x_t, timesteps, unseen.conditions) - guided).square().mean()
            for each in (untrained, student)
        )
        assert after < before / 2


def test_a_distillation_that_was_stopped_ends_with_the_same_bits(tmp_path: Path) -> None:
    recipe = distilled_recipe(a_teacher(), training=CONFIG)

    def opened(folder: str) -> TrainingRun:
        return TrainingRun(tmp_path / folder, IMAGES, recipe, {"training": CONFIG}, Computation())

    for _ in opened("whole").steps():
        pass
    steps = opened("stopped").steps()
    while next(steps).step < 3:
        pass
    del steps  # cut off, after the checkpoint of the first epoch was kept
    for _ in opened("stopped").steps():
        pass
    whole, stopped = (read_checkpoint(tmp_path / folder / "epoch0002.pt") for folder in ("whole", "stopped"))
    assert whole.denoiser == stopped.denoiser == student_of(a_teacher())
    for name, weights in whole.weights.items():
        assert torch.equal(weights, stopped.weights[name])
    # Another teacher of the same settings is another training.
    other = distilled_recipe(a_teacher(seed=1), training=CONFIG)
    with pytest.raises(LabError, match=r"was made with other settings: teacher is [0-9a-f]{16} there"):
        TrainingRun(tmp_path / "whole", IMAGES, other, {"training": CONFIG}, Computation())


@pytest.mark.parametrize(("weight", "scale"), [(0.0, 1.0), (2.0, None)])
def test_a_step_costs_one_evaluation_and_has_no_effective_scale_beyond_w_of_0(
    weight: float, scale: float | None
) -> None:
    student = Trainer(distilled_recipe(a_teacher()), IMAGES).checkpoint()
    schedule, sampler = noise_schedule(SCHEDULE), DDIMConfig(sampling_steps=5)
    meter, counter = EffectiveScale(), EvaluationCounter(student.noise_predictor())
    observed = meter.observed(counter)
    unguided = Unguided(observed, observed, schedule, timestep_grid(100, 5), IMAGES.vocabulary)
    guided = meter.measured(DistilledMethod().guide(unguided, weight))
    noise = NoiseSource([(0, image) for image in range(4)], IMAGES.image_shape)
    sample(guided, schedule, sampler, IMAGES.conditions[:4], noise)
    assert counter.evaluations == 4 * 5
    found = effective_scale(meter.taken())
    assert found == scale


def test_a_student_is_sampled_at_each_w_by_its_method_alone() -> None:
    student = Trainer(distilled_recipe(a_teacher(), (0.0, 3.0)), IMAGES).checkpoint()
    pixels = lab.sample(student, [["7"], ["3"]], 3.0, guidance="distilled", progress=False)
    assert pixels.shape == (2, *IMAGES.image_shape)
    for method in ("plain", "interval"):
        with pytest.raises(LabError, match=f"a student, .* use --guidance.method distilled, not {method}"):
            lab.sample(student, [["7"]], 1.0, guidance=method, progress=False)
    for beyond in (-1.0, 3.5):
        with pytest.raises(LabError, match=f"w = {beyond:g} is outside the range .* choose from 0 to 3"):
            lab.sample(student, [["7"]], beyond, guidance="distilled", progress=False)
    with pytest.raises(LabError, match="--guidance.method distilled needs a student"):
        lab.sample(a_teacher(), [["7"]], 1.0, guidance="distilled", progress=False)


def test_the_page_of_a_student_begins_at_a_w_that_it_has_learned() -> None:
    for high, first in ((1.0, 1.0), (3.0, 2.0)):
        student = Trainer(distilled_recipe(a_teacher(), (0.0, high), CONFIG), IMAGES).checkpoint()
        known = contents(Session(student, Computation()), Path("epoch0002.pt"))
        assert [method["name"] for method in known["methods"]] == ["distilled"]
        assert known["first"]["guidance_weight"] == first


def test_a_student_without_context_dropout_has_no_null_condition_to_show() -> None:
    recipe = distilled_recipe(a_teacher(), training=replace(CONFIG, context_dropout=0.0))
    student = Trainer(recipe, IMAGES).checkpoint({"training": {"context_dropout": 0.0}})
    assert not Session(student, Computation()).has_null_condition
    untaught = Experiment(
        training=replace(CONFIG, context_dropout=0.0),
        distillation=DistillationConfig(Path("teacher.pt")),
        sweep=SweepConfig(lift_draws=1),
    )
    with pytest.raises(LabError, match="--sweep.lift-draws needs a null condition"):
        require_lift(untaught)
    require_lift(replace(untaught, training=replace(CONFIG, context_dropout=0.1)))
    without = replace(CONFIG, context_dropout=0.0)
    alone = replace(untaught, distillation=DistillationConfig(), denoiser=SMALL, training=without)
    with pytest.raises(LabError, match="--sweep.lift-draws needs a null condition"):
        require_lift(alone)
    # What earlier weights know is not known.
    require_lift(replace(alone, training=replace(without, start_from=Path("earlier.pt"))))
    require_lift(replace(alone, training=replace(without, epochs=0)))


def test_a_student_may_take_as_many_steps_as_its_teacher_has_timesteps(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "teacher.pt", replace(a_teacher(), schedule=CosineScheduleConfig(timesteps=1000)))
    distillation = DistillationConfig(Path("teacher.pt"))
    experiment = Experiment(root=tmp_path, distillation=distillation, sampler=DDIMConfig(sampling_steps=500))
    assert of_student(experiment).schedule.timesteps == 1000
    with pytest.raises(LabError, match="it must be at most --schedule.timesteps, which is 1000"):
        of_student(replace(experiment, sampler=DDIMConfig(sampling_steps=1001)))


def test_what_cannot_be_distilled_is_refused() -> None:
    teacher = a_teacher()
    student = Trainer(distilled_recipe(teacher), IMAGES).checkpoint()
    with pytest.raises(LabError, match="the teacher is a student; give --distillation.sampling-steps"):
        student_of(student)
    with pytest.raises(LabError, match="the teacher is a unet2d"):
        student_of(replace(teacher, denoiser=UNet2DConfig()))
    without = {"training": {"context_dropout": 0.0, "start_from": None}}
    with pytest.raises(LabError, match="has no null condition to guide away"):
        student_of(replace(teacher, settings=without))
    # An experiment writes down which weights its training started from, and these may know the null condition.
    student_of(replace(teacher, settings=without | {"start_from": "0123456789abcdef"}))
    for low, high in ((1.0, 4.0), (0.0, 0.0), (-2.0, 4.0)):
        with pytest.raises(LabError, match="--distillation.guidance-weights is"):
            student_of(teacher, (low, high))
    recipe = distilled_recipe(teacher)
    for other, told in (
        (replace(recipe, teacher=None), "is a student and needs a teacher"),
        (replace(recipe, denoiser=SMALL), "does not match the teacher"),
        (replace(recipe, schedule=CosineScheduleConfig(timesteps=50)), "does not match the teacher"),
        (replace(recipe, training=replace(CONFIG, start_from=Path("x.pt"))), "both give the weights to start from"),
        (replace(recipe, teacher=replace(teacher, image_shape=(1, 16, 16))), "makes images of .*1, 16, 16"),
        (replace(recipe, teacher=replace(teacher, vocabulary=ClassVocabulary(tuple("abc")))), "has 3 classes"),
    ):
        with pytest.raises(LabError, match=told):
            Trainer(other, IMAGES)
    with pytest.raises(LabError, match="--distillation.guidance-weights needs --distillation.teacher"):
        DistillationConfig(guidance_weights=(0.0, 2.0))


@pytest.mark.slow
def test_the_command_trains_a_student_and_has_its_rows_beside_its_teacher_s(
    finished: Path, tmp_path: Path, mistake: Mistake, capsys: pytest.CaptureFixture[str]
) -> None:
    root = new_root(tmp_path)
    teacher = root / "checkpoints" / "digits" / "epoch0002.pt"
    teacher.parent.mkdir(parents=True)
    teacher.write_bytes((finished / "checkpoints" / "digits" / "epoch0002.pt").read_bytes())
    arguments = ["digits-distilled", *TINY, "--training.score-every", "1"]
    arguments += ["--distillation.teacher", "checkpoints/digits/epoch0002.pt"]
    arguments += ["--sweep.guidance-weights", "0", "2", "--sweep.newest", "1"]
    mistake(root, "w = 5 is outside the range that the student learned", *arguments, "--sweep.guidance-weights", "5")
    mistake(root, "use --guidance.method distilled, not plain", *arguments, "--guidance.method", "plain")
    mistake(root, "a teacher has none beside it", *arguments, "--guidance.method", "distilled", "auto")
    mistake(root, "no such checkpoint", *arguments, "--distillation.teacher", "checkpoints/digits/epoch9.pt")
    mistake(root, "remove --training.start-from", *arguments, "--training.start-from", str(teacher))
    mistake(root, "needs a student", "digits", *TINY, "--guidance.method", "distilled")
    mistake(root, "predicts x_0 or v, and this one predicts", *arguments, "--distillation.sampling-steps", "1")
    assert run(root, *arguments) == 0
    assert "network and noise schedule are of checkpoints/digits/epoch0002.pt" in capsys.readouterr().err
    folder = root / "checkpoints" / "digits-distilled"
    assert (folder / "teacher.pt").read_bytes() == teacher.read_bytes()
    student = read_checkpoint(folder / "epoch0002.pt")
    assert isinstance(student.denoiser, DistilledUnetConfig)
    assert student.denoiser.guidance_weights == (0.0, 4.0)

    sweep = table(root, experiment="digits-distilled")
    keys = sweep[["checkpoint", "guidance_method", "guidance_weight", "network_evaluations"]].drop_duplicates()
    assert sorted(map(tuple, keys.to_numpy().tolist())) == [
        ("epoch0002", "distilled", 0.0, 3), ("epoch0002", "distilled", 2.0, 3),
        ("teacher", "plain", 0.0, 3), ("teacher", "plain", 2.0, 6),
    ]  # fmt: skip
    assert set(table(root, "ranking", "digits-distilled")["checkpoint"]) == {"teacher", "epoch0002"}
    quality = table(root, "quality", "digits-distilled").dropna(subset=["guidance_method"])
    assert {*zip(quality["checkpoint"], quality["guidance_method"], strict=True)} == {
        ("teacher", "plain"), ("epoch0002", "distilled"),
    }  # fmt: skip
    by_epoch = table(root, "accuracy_by_epoch", "digits-distilled")
    assert by_epoch["epoch"].tolist() == [1, 2]
    named = [path.name for path in (folder / "by_accuracy").iterdir()]
    assert sorted(name.partition("_")[0] for name in named) == ["epoch1", "epoch2"]
    networks = json.loads((root / "reports" / "digits-distilled" / "config.json").read_text())["networks"]
    assert networks["denoiser"]["kind"] == "distilled_unet"

    cells = {path: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    assert run(root, *arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()} == cells
    source = ["sample", "--checkpoint", str(folder / "epoch0002.pt"), "--ask", "7", "--guidance-weight", "2"]
    pictures = ["--out", str(tmp_path / "pictures")]
    assert lab_command(source + pictures + ["--guidance.method", "distilled"]) == 0
    assert (tmp_path / "pictures" / "0.png").exists()
    capsys.readouterr()
    assert lab_command([*source, "--out", str(tmp_path / "none")]) == 2
    assert "use --guidance.method distilled, not plain" in capsys.readouterr().err
