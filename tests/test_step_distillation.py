"""Step distillation: a student that predicted its targets would make in N steps what its teacher makes in 2 N."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lab
from experiments.configuration import Experiment
from experiments.distillation import of_student
from experiments.play.image_request import ImageRequest
from experiments.play.page import contents
from experiments.play.session import Session
from experiments.selection import require_lift
from experiments.weaker import weaker_checkpoint
from lab.configuration.diffusion import (
    CorruptionScheduleConfig,
    CosineScheduleConfig,
    DDIMConfig,
    DPMSolverConfig,
    LinearScheduleConfig,
    ScheduleConfig,
)
from lab.configuration.distillation import DistillationConfig
from lab.configuration.guidance import GuidanceConfig
from lab.configuration.networks import ContextUnetConfig, DistilledUnetConfig, Prediction
from lab.configuration.sweep import SweepConfig
from lab.configuration.training import TrainingConfig
from lab.data.datasets import digits
from lab.diffusion.denoising import timestep_grid
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.objectives import NOISES, AsNoisePredictor
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import NoiseSchedule, noise_schedule
from lab.errors import LabError
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.guidance.distilled import DistilledGuidance, DistilledMethod
from lab.guidance.methods import NamedMethod
from lab.machine.computation import Computation
from lab.networks.distilled_unet import with_weight
from lab.training.checkpoints import Checkpoint, read_checkpoint, save_checkpoint
from lab.training.distillation import Teacher, distilled_recipe, student_of
from lab.training.recipe import Recipe
from lab.training.runs import TrainingRun
from lab.training.trainer import Trainer
from lab.training.two_steps import TwoSteps
from lab.types import Conditions, Images, NoisePredictor, Timesteps
from tests.command import TINY, Mistake, new_root, run, table
from tests.test_distillation import IMAGES, SCHEDULE, some_inputs
from tests.test_distillation import SMALL as PREDICTS_NOISE
from tests.test_distillation import a_teacher as a_teacher_of

SMALL = replace(PREDICTS_NOISE, prediction="x_0")
CONFIG = TrainingConfig(epochs=2, batch_size=45, warmup_steps=2, decay="none", ema_decay=0.0)


def a_teacher(config: ContextUnetConfig = SMALL) -> Checkpoint:
    """A checkpoint of random weights that predicts x_0."""
    return a_teacher_of(config)


def in_double(checkpoint: Checkpoint) -> NoisePredictor:
    """The checkpoint's noise predictor in float64."""
    network = checkpoint.network(torch.device("cpu")).double()
    return AsNoisePredictor(network, checkpoint.denoiser.prediction, noise_schedule(checkpoint.schedule))


def images_of(predictor: NoisePredictor, schedule: NoiseSchedule, steps: int, conditions: Conditions) -> Images:
    """Images of DDIM in this many steps, in float64."""

    def double(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        return predictor(x_t.double(), timesteps, conditions.double())

    noise = NoiseSource([(0, image) for image in range(len(conditions))], IMAGES.image_shape, schedule.noise)
    return sample(double, schedule, DDIMConfig(sampling_steps=steps), conditions, noise)


@pytest.mark.parametrize("prediction", ["x_0", "v"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("weight", [0.0, 2.5])
@pytest.mark.parametrize(
    "amounts",
    [
        # 99 timesteps: 2 N = 14 steps do not divide them. The second ends at no clean image, and the third does not
        # preserve the variance and has even noise.
        CosineScheduleConfig(timesteps=99),
        LinearScheduleConfig(timesteps=99, extra_beta=True),
        CorruptionScheduleConfig(timesteps=99, extra_amount=True),
    ],
)
def test_predicting_the_targets_makes_in_n_steps_what_the_guided_teacher_makes_in_twice_as_many(
    prediction: Prediction, steps: int, weight: float, amounts: ScheduleConfig
) -> None:
    checkpoint = replace(a_teacher(replace(SMALL, prediction=prediction)), schedule=amounts)
    schedule, conditions = noise_schedule(amounts), IMAGES.conditions[:12]
    teacher = Teacher(checkpoint, (-1.0, 4.0), Computation(), sampling_steps=steps)
    teacher.computed.network.double()  # type: ignore[attr-defined]  # a module
    asked_at = set()

    def student(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        asked_at.update(timesteps.tolist())
        target = teacher.target(x_t, timesteps, with_weight(conditions, weight))
        return NOISES[prediction](x_t, target, *schedule.amounts(timesteps, x_t))

    expected = images_of(ClassifierFreeGuidance(in_double(checkpoint), weight), schedule, 2 * steps, conditions)
    torch.testing.assert_close(images_of(student, schedule, steps, conditions), expected, atol=1e-8, rtol=1e-8)
    assert asked_at == set(teacher.timesteps.tolist()) == set(timestep_grid(99, steps))


@pytest.mark.parametrize("prediction", ["x_0", "v"])
def test_the_target_of_the_noisiest_timestep_keeps_its_digits_in_float32(
    prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = replace(
        a_teacher(replace(SMALL, prediction=prediction)), schedule=CosineScheduleConfig(timesteps=1000)
    )
    targets = {}
    x_t, last = torch.randn(12, *IMAGES.image_shape, generator=torch.Generator().manual_seed(5)), torch.full((12,), 999)
    for dtype in (torch.float32, torch.float64):
        teacher = Teacher(checkpoint, (0.0, 4.0), Computation(), sampling_steps=1)
        teacher.computed.network.to(dtype)  # type: ignore[attr-defined]  # a module
        # What the network predicts is the same in both, so that only the arithmetic of the two steps differs.
        predicted = torch.linspace(-0.9, 0.9, x_t.numel()).view_as(x_t)
        monkeypatch.setattr(teacher, "_guided", lambda x, _t, _c, same=predicted: same.to(x.dtype))
        targets[dtype] = teacher.target(x_t.to(dtype), last, with_weight(IMAGES.conditions[:12].to(dtype), 1.0))
    torch.testing.assert_close(targets[torch.float32].double(), targets[torch.float64], atol=1e-5, rtol=0)


def test_the_target_of_images_at_different_timesteps_is_that_of_each_alone() -> None:
    teacher = Teacher(a_teacher(), (0.0, 4.0), Computation(), sampling_steps=5)
    x_t, _, conditions = some_inputs(10)
    timesteps, weighted = teacher.timesteps.repeat(2), with_weight(conditions, torch.linspace(0, 4, 10))
    together = teacher.target(x_t, timesteps, weighted)
    alone = [teacher.target(x_t[i : i + 1], timesteps[i : i + 1], weighted[i : i + 1]) for i in range(10)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_two_steps_by_hand() -> None:
    # alpha = 0.28, 0.6 and 0.8 and sigma = 0.96, 0.8 and 0.6 at t = 3, at t = 1 and at the end of the schedule. With
    # predictions 1 and -1, x_s = 0.6 + 0.8 / 0.96 (2 - 0.28) = 2.0333..., x_u = -0.8 + 0.6 / 0.8 (2.0333... + 0.6)
    # = 1.175, and x_0 = (1.175 - 0.6 / 0.96 2) / (0.8 - 0.6 / 0.96 0.28).
    amounts = torch.tensor([[0.7, 0.51**0.5], [0.6, 0.8], [0.5, 0.75**0.5], [0.28, 0.96]], dtype=torch.float64)
    schedule = NoiseSchedule(amounts[:, 0], amounts[:, 1], end=(0.8, 0.6))
    two = TwoSteps(schedule, 1)
    x_t = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    given = iter((1.0, -1.0))
    seen = []

    def predict(x: Images, timesteps: Timesteps) -> Images:
        seen.append((x.item(), timesteps.item()))
        return torch.full_like(x, next(given))

    assert two.merged(predict, x_t, torch.tensor([3])).item() == pytest.approx((1.175 - 1.25) / (0.8 - 0.175))
    assert seen == [(2.0, 3), (pytest.approx(0.6 + 0.8 / 0.96 * 1.72), 1)]


@pytest.mark.parametrize("schedule", [CosineScheduleConfig(timesteps=50), LinearScheduleConfig(timesteps=60)])
def test_the_target_lies_between_the_two_predictions(schedule: CosineScheduleConfig | LinearScheduleConfig) -> None:
    for steps in (1, 2, 5, 20):
        two = TwoSteps(noise_schedule(schedule), steps)
        x_t = torch.zeros(steps, 1, 1, 1, dtype=torch.float64)
        given = iter((torch.zeros_like(x_t), torch.ones_like(x_t)))
        shares = two.merged(lambda _x, _t, given=given: next(given), x_t, two.timesteps).flatten()  # type: ignore[misc]  # of two
        assert ((shares > 0) & (shares <= 1)).all()
        # The last step ends at the clean image, which is the second prediction.
        assert shares[-1] == pytest.approx(1)


def test_a_student_of_few_steps_is_trained_at_their_timesteps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(distilled_recipe(a_teacher(), training=CONFIG, sampling_steps=4), IMAGES)
    asked: list[int] = []
    assert trainer.teacher is not None
    target = trainer.teacher.target

    def noted(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        asked.extend(timesteps.tolist())
        return target(x_t, timesteps, conditions)

    monkeypatch.setattr(trainer.teacher, "target", noted)
    for _ in trainer.steps():
        pass
    assert set(asked) == {24, 49, 74, 99} == set(timestep_grid(SCHEDULE.timesteps, 4))
    # Of 180 drawn, a quarter each, within four standard errors.
    for timestep in set(asked):
        assert abs(asked.count(timestep) - 45) < 4 * (180 * 0.25 * 0.75) ** 0.5


def test_the_student_of_a_student_starts_as_its_teacher_at_every_w_to_the_bit() -> None:
    first = Trainer(distilled_recipe(a_teacher(), (0.0, 3.0), replace(CONFIG, warmup_steps=0)), IMAGES)
    for _ in first.steps():
        pass
    teacher = first.checkpoint()
    student = Trainer(distilled_recipe(teacher, (0.0, 3.0), sampling_steps=8), IMAGES).checkpoint()
    x_t, timesteps, conditions = some_inputs()
    for weight in (0.0, 1.5, 3.0):
        wanted = DistilledGuidance(teacher.noise_predictor(), weight)(x_t, timesteps, conditions)
        assert torch.equal(DistilledGuidance(student.noise_predictor(), weight)(x_t, timesteps, conditions), wanted)


def test_the_targets_of_a_student_s_student_are_two_steps_of_its_teacher_at_its_w() -> None:
    first = Trainer(distilled_recipe(a_teacher(), training=replace(CONFIG, warmup_steps=0)), IMAGES)
    for _ in first.steps():
        pass
    checkpoint, schedule, conditions = first.checkpoint(), noise_schedule(SCHEDULE), IMAGES.conditions[:12]
    teacher = Teacher(checkpoint, (0.0, 4.0), Computation(), sampling_steps=2)
    teacher.computed.network.double()  # type: ignore[attr-defined]  # a module

    def student(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        x_0 = teacher.target(x_t, timesteps, with_weight(conditions, 2.5))
        return NOISES["x_0"](x_t, x_0, *schedule.amounts(timesteps, x_t))

    expected = images_of(DistilledGuidance(in_double(checkpoint), 2.5), schedule, 4, conditions)
    torch.testing.assert_close(images_of(student, schedule, 2, conditions), expected, atol=1e-8, rtol=1e-8)
    unguided = images_of(DistilledGuidance(in_double(checkpoint), 0.0), schedule, 4, conditions)
    assert not torch.allclose(unguided, expected, atol=1e-3)


def test_a_student_of_few_steps_is_sampled_in_these_alone() -> None:
    student = Trainer(distilled_recipe(a_teacher(), training=CONFIG, sampling_steps=2), IMAGES).checkpoint()
    pixels = lab.sample(
        student, [["7"]], 2.0, guidance="distilled", sampler=DDIMConfig(sampling_steps=2), progress=False
    )
    assert pixels.shape == (1, *IMAGES.image_shape)
    for other in (DDIMConfig(sampling_steps=4), DDIMConfig(sampling_steps=2, eta=1), DPMSolverConfig(sampling_steps=2)):
        with pytest.raises(LabError, match=r"in 2 DDIM steps; use --sampler.kind ddim --sampler.sampling-steps 2"):
            lab.sample(student, [["7"]], 2.0, guidance="distilled", sampler=other, progress=False)
    # A function that guides is not looked into, but the sampler is.
    with pytest.raises(LabError, match=r"in 2 DDIM steps"):
        lab.sample(student, [["7"]], 2.0, guidance=DistilledGuidance, progress=False)


def test_the_page_of_a_student_of_few_steps_begins_with_them_and_takes_no_others() -> None:
    student = Trainer(distilled_recipe(a_teacher(), training=CONFIG, sampling_steps=2), IMAGES).checkpoint()
    session = Session(student, Computation())
    first = contents(session, Path("epoch0002.pt"))["first"]
    assert (first["sampler"], first["sampling_steps"]) == ("ddim", 2)
    wanted = ImageRequest(("7",), 2.0, NamedMethod("distilled", DistilledMethod()), DDIMConfig(sampling_steps=2), 0)
    session.require_fit(wanted)
    with pytest.raises(LabError, match=r"in 2 DDIM steps"):
        session.require_fit(replace(wanted, sampler=DPMSolverConfig(sampling_steps=2)))


def test_a_student_of_few_steps_is_refused_where_all_timesteps_are_needed(tmp_path: Path) -> None:
    student = Trainer(distilled_recipe(a_teacher(), training=CONFIG, sampling_steps=2), IMAGES).checkpoint()
    with pytest.raises(LabError, match=r"bring_back needs .* learned only those of its 2 steps"):
        lab.bring_back(student, IMAGES.pixels[0], [50], progress=False)
    with pytest.raises(LabError, match=r"`weaker` needs .* learned only those of its 2 steps"):
        lab.sample(a_teacher(), [["7"]], 1.0, guidance="auto", weaker=student, progress=False)
    save_checkpoint(tmp_path / "student.pt", student)
    with pytest.raises(LabError, match=r"--weak-checkpoint .*student.pt needs .* learned only those of its 2 steps"):
        weaker_checkpoint(tmp_path / "student.pt", tmp_path / "teacher.pt", a_teacher())
    lift = Experiment(denoiser=student.denoiser, sweep=SweepConfig(lift_draws=1))  # type: ignore[arg-type]  # of students
    with pytest.raises(LabError, match=r"--sweep.lift-draws needs .* learned only those of its 2 steps"):
        require_lift(lift)


def test_the_steps_are_part_of_what_a_training_is_and_a_stopped_one_ends_with_the_same_bits(tmp_path: Path) -> None:
    recipe = distilled_recipe(a_teacher(), training=replace(CONFIG, checkpoints=2), sampling_steps=4)

    def opened(folder: str, recipe: Recipe = recipe) -> TrainingRun:
        settings = {"training": recipe.training, "denoiser": recipe.denoiser}
        return TrainingRun(tmp_path / folder, IMAGES, recipe, settings, Computation())

    for _ in opened("whole").steps():
        pass
    steps = opened("stopped").steps()
    while next(steps).step < 3:
        pass
    del steps
    for _ in opened("stopped").steps():
        pass
    whole, stopped = (read_checkpoint(tmp_path / folder / "epoch0002.pt") for folder in ("whole", "stopped"))
    assert (
        whole.denoiser
        == stopped.denoiser
        == DistilledUnetConfig(**vars(SMALL) | {"kind": "distilled_unet", "sampling_steps": 4})
    )
    for name, weights in whole.weights.items():
        assert torch.equal(weights, stopped.weights[name])
    with pytest.raises(LabError, match=r"was made with other settings: denoiser.sampling_steps is 4 there, 2 here"):
        opened("whole", distilled_recipe(a_teacher(), training=recipe.training, sampling_steps=2))


def test_what_cannot_be_distilled_in_steps_is_refused(tmp_path: Path) -> None:
    teacher = a_teacher()
    halves = Trainer(distilled_recipe(teacher, training=CONFIG, sampling_steps=4), IMAGES).checkpoint()
    assert student_of(halves, sampling_steps=2).sampling_steps == 2
    with pytest.raises(LabError, match=r"the teacher samples in 4 steps, and a student of 4 needs one of 8"):
        student_of(halves, sampling_steps=4)
    with pytest.raises(LabError, match=r"the teacher learned w from 0 to 4; set --distillation.guidance-weights 0 4"):
        student_of(halves, (0.0, 2.0), sampling_steps=2)
    with pytest.raises(LabError, match=r"--distillation.sampling-steps is 51; use at most half .* timesteps, 100"):
        student_of(teacher, sampling_steps=51)
    with pytest.raises(LabError, match=r"--distillation.sampling-steps needs --distillation.teacher"):
        DistillationConfig(sampling_steps=4)
    with pytest.raises(LabError, match=r"--distillation.sampling-steps is -1"):
        DistillationConfig(Path("teacher.pt"), sampling_steps=-1)
    with pytest.raises(LabError, match="needs a teacher that predicts x_0 or v, and this one predicts the noise"):
        student_of(a_teacher(PREDICTS_NOISE), sampling_steps=4)
    with pytest.raises(LabError, match="--training.weighting min_snr leaves the noisiest timestep"):
        Trainer(distilled_recipe(teacher, training=replace(CONFIG, weighting="min_snr"), sampling_steps=4), IMAGES)
    untaught = replace(halves, settings={"training": {"context_dropout": 0.0}})
    with pytest.raises(LabError, match="cannot teach the null condition; set --training.context-dropout 0"):
        Trainer(distilled_recipe(untaught, sampling_steps=2), IMAGES)
    Trainer(distilled_recipe(untaught, training=replace(CONFIG, context_dropout=0.0), sampling_steps=2), IMAGES)
    with pytest.raises(LabError, match="does not match the teacher"):
        Trainer(
            replace(distilled_recipe(halves, sampling_steps=2), schedule=CosineScheduleConfig(timesteps=50)), IMAGES
        )
    save_checkpoint(tmp_path / "halves.pt", halves)
    experiment = Experiment(
        root=tmp_path,
        distillation=DistillationConfig(Path("halves.pt"), sampling_steps=2),
        sampler=DDIMConfig(sampling_steps=2),
        guidance=GuidanceConfig(("plain", "distilled")),
    )
    with pytest.raises(LabError, match=r"halves.pt, is itself a student, .* give that method alone"):
        of_student(experiment)
    student = of_student(replace(experiment, guidance=GuidanceConfig(("distilled",)))).denoiser
    assert student == DistilledUnetConfig(n_feat=SMALL.n_feat, prediction="x_0", sampling_steps=2)


@pytest.mark.slow
def test_a_student_of_two_steps_comes_nearer_to_four_of_its_teacher_s_than_its_teacher_in_two() -> None:
    every = digits()
    images = every.subset(torch.arange(1000))
    config = TrainingConfig(epochs=15, batch_size=32, learning_rate=4e-3)
    recipe = lab.Recipe(replace(SMALL, conditioning="blocks", bottleneck="map"), SCHEDULE, config)
    teacher = lab.train(images, recipe, progress=False)
    config = replace(config, epochs=30, context_dropout=0)
    student = lab.train(images, distilled_recipe(teacher, (0.0, 1.0), config, sampling_steps=2), progress=False)
    schedule, conditions = noise_schedule(SCHEDULE), every.conditions[1000:1200]
    for weight in (0.0, 1.0):
        guided = ClassifierFreeGuidance(teacher.noise_predictor(), weight)
        wanted, before = (
            sample(
                guided, schedule, DDIMConfig(sampling_steps=steps), conditions,
                NoiseSource([(0, image) for image in range(200)], IMAGES.image_shape),
            )
            for steps in (4, 2)
        )  # fmt: skip
        after = sample(
            DistilledGuidance(student.noise_predictor(), weight), schedule, DDIMConfig(sampling_steps=2), conditions,
            NoiseSource([(0, image) for image in range(200)], IMAGES.image_shape),
        )  # fmt: skip
        assert (after - wanted).square().mean() < (before - wanted).square().mean() / 2


@pytest.mark.slow
def test_the_command_trains_a_student_of_few_steps_and_samples_it_in_these(
    tmp_path: Path, mistake: Mistake, capsys: pytest.CaptureFixture[str]
) -> None:
    root = new_root(tmp_path)
    assert run(root, "digits", *TINY, "--denoiser.prediction", "x_0") == 0
    arguments = ["digits-distilled", *TINY, "--training.score-every", "1", "--sweep.guidance-weights", "0", "2"]
    arguments += ["--distillation.teacher", "checkpoints/digits/epoch0002.pt", "--distillation.sampling-steps", "2"]
    mistake(root, "use --sampler.kind ddim --sampler.sampling-steps 2, without --sampler.eta", *arguments)
    arguments += ["--sampler.kind", "ddim", "--sampler.sampling-steps", "2", "--sweep.newest", "1"]
    assert run(root, *arguments) == 0
    sweep = table(root, experiment="digits-distilled")
    keys = sweep[["checkpoint", "guidance_weight", "network_evaluations"]].drop_duplicates()
    assert sorted(map(tuple, keys.to_numpy().tolist())) == [
        ("epoch0002", 0.0, 2), ("epoch0002", 2.0, 2), ("teacher", 0.0, 2), ("teacher", 2.0, 4),
    ]  # fmt: skip
    capsys.readouterr()
    half = [*arguments, "--name", "one", "--guidance.method", "distilled"]
    half += [
        "--distillation.teacher",
        "checkpoints/digits-distilled/epoch0002.pt",
        "--distillation.sampling-steps",
        "1",
    ]
    mistake(root, "use --sampler.kind ddim --sampler.sampling-steps 1, without --sampler.eta", *half)
    assert run(root, *half, "--sampler.sampling-steps", "1") == 0
    assert set(table(root, experiment="one")["network_evaluations"]) == {1}
