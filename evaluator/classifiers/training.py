"""Training of an evaluator on its own split of the images.

    loss = binary cross-entropy of every class's logit against the multi-hot condition

The optimizer is AdamW with a one-cycle learning rate. Each epoch changes every training image a little, with new random
values; see `jitter.py`.
"""

import math
from collections.abc import Iterator

import torch
from torch import nn

from evaluator.classifiers.jitter import jittered
from evaluator.configuration import EvaluatorConfig
from lab.data.labelled_images import LabelledImages, to_float
from lab.errors import LabError
from lab.machine.precision import WIDE_ENOUGH, chosen_precision

LARGE_ENOUGH = 28
"""Side of the images from which bfloat16 trains a classifier twice as fast or more, on a CPU that has units for it."""


def batch_sizes(images: int, batch_size: int) -> list[int]:
    """Return the batch sizes of an epoch; the last batch holds the remainder.

    A remainder of one image joins the previous batch: batch normalisation needs more than one value a channel.
    """
    whole, left = divmod(images, batch_size)
    sizes = [batch_size] * whole + [left] * (left > 0)
    return [*sizes[:-2], sizes[-2] + 1] if left == 1 and whole else sizes


def training_precision(name: str, device: torch.device, side: int) -> str:
    """Return the precision of a classifier's training by name; "auto" gives the faster of the two.

    Args:
        name: "auto", "float32" or "bfloat16".
        device: the device of the classifier.
        side: of the images, in pixels.
    """
    if name == "auto" and device.type == "cpu" and side < LARGE_ENOUGH:
        return "float32"
    # The rule of widths is the denoiser's; a classifier of any width gains.
    return chosen_precision(name, device, WIDE_ENOUGH)


def train_classifier(
    classifier: nn.Module, dataset: LabelledImages, config: EvaluatorConfig, seed: int, precision: str = "float32"
) -> Iterator[float]:
    """Train a classifier in place, on its own device, and yield each epoch's mean loss.

    The order and the jitter of epoch e depend on (seed, e). Dropout uses a forked global RNG with the same seed.
    `precision` is that of training alone; the classifier judges in float32.

    Raises:
        LabError: the loss is not finite.
    """
    device = next(classifier.parameters()).device
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    sizes = batch_sizes(len(dataset), config.batch_size)
    total_steps = config.epochs * len(sizes)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=total_steps)
    for epoch in range(config.epochs):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        total = 0.0
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.default_generator.manual_seed(seed * 1_000_003 + epoch)
            if device.type == "cuda":
                torch.cuda.manual_seed(seed * 1_000_003 + epoch)
            classifier.train()
            for chosen in torch.split(torch.randperm(len(dataset), generator=generator), sizes):
                images = jittered(to_float(dataset.pixels[chosen]), config, generator)
                # Without this layout, bfloat16 gains nothing.
                given = images.to(device, memory_format=torch.channels_last)
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                    logits = classifier(given).float()
                loss = nn.functional.binary_cross_entropy_with_logits(logits, dataset.conditions[chosen].to(device))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature is untyped
                optimizer.step()
                schedule.step()
                total += loss.item() * len(chosen)
        if not math.isfinite(total):
            raise LabError(
                f"the evaluator's loss is {total} in epoch {epoch + 1}; lower --evaluator.learning-rate "
                f"(currently {config.learning_rate:g})"
            )
        yield total / len(dataset)
    classifier.eval()
