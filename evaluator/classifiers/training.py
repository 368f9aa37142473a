"""Training of an evaluator on its own split of the images.

    loss = binary cross-entropy of every class's logit against the multi-hot condition

The optimizer is AdamW with a one-cycle learning rate. Each epoch changes every training image a little, with new random
values; see `jitter.py`.
"""

import math
from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from evaluator.classifiers.jitter import jittered
from evaluator.configuration import EvaluatorConfig
from lab.data.labelled_images import LabelledImages, to_float
from lab.errors import LabError
from lab.machine.batch_layers import compute_over_ranks
from lab.machine.precision import WIDE_ENOUGH, chosen_precision
from lab.machine.ranks import Ranks

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


class ClassifierTraining:
    """A classifier in training, in place and on its own device.

    The order and the jitter of epoch e depend on (seed, e), and so does dropout, whose global RNG is forked.

    Args:
        classifier: the network.
        dataset: what it is trained on.
        config: how.
        seed: of the order, the jitter and dropout.
        precision: of the training alone; the classifier judges in float32.
        ranks: the processes that train it together, each of which has such a training; by default this one alone.
    """

    def __init__(
        self,
        classifier: nn.Module,
        dataset: LabelledImages,
        config: EvaluatorConfig,
        seed: int,
        precision: str = "float32",
        ranks: Ranks | None = None,
    ) -> None:
        self.classifier, self.dataset, self.config, self.seed = classifier, dataset, config, seed
        self.precision, self.ranks = precision, ranks or Ranks()
        compute_over_ranks(classifier, self.ranks)
        self.device = next(classifier.parameters()).device
        self.sizes = batch_sizes(len(dataset), config.batch_size)
        self.optimizer = torch.optim.AdamW(
            classifier.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, config.learning_rate, total_steps=self.total_steps
        )
        self.step = 0
        self.losses: list[float] = []
        """The mean loss of every finished epoch."""
        self._loss_sum = 0.0
        self._generator, self._of_dropout = torch.Generator(), list[Tensor]()

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.config.epochs * len(self.sizes)

    def steps(self) -> Generator[int, None, None]:
        """Train from the step reached so far to the end, yielding the number of steps after each.

        Raises:
            LabError: the loss of an epoch is not finite.
        """
        self.classifier.train()
        order: tuple[Tensor, ...] = ()
        with self.ranks.training():
            while self.step < self.total_steps and self.ranks.next_step():
                epoch, batch = divmod(self.step, len(self.sizes))
                if batch == 0 or not order:
                    order = self._begin(epoch, batch)
                self._loss_sum += self._optimize(order[batch]) * len(order[batch])
                self.step += 1
                if batch + 1 == len(self.sizes):
                    self._end(epoch)
                yield self.step
        self.classifier.eval()

    def _begin(self, epoch: int, batch: int) -> tuple[Tensor, ...]:
        """Return the batches of an epoch, and seed its randomness unless it goes on in the middle."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.split(torch.randperm(len(self.dataset), generator=generator), self.sizes)
        if batch == 0:
            self._generator = generator
            with self._forked():
                torch.default_generator.manual_seed(self.seed * 1_000_003 + epoch)
                if self.device.type == "cuda":
                    torch.cuda.manual_seed(self.seed * 1_000_003 + epoch)
                self._of_dropout = self._random_states()
        return order

    def _optimize(self, chosen: Tensor) -> float:
        """Take one step and return the mean loss of its batch."""
        share = self.ranks.shared(len(chosen))
        images = jittered(to_float(self.dataset.pixels[chosen]), self.config, self._generator)[share.rows]
        conditions = self.dataset.conditions[chosen[share.rows]].to(self.device)
        # Without this layout, bfloat16 gains nothing.
        given = images.to(self.device, memory_format=torch.channels_last)
        with self._forked():
            torch.set_rng_state(self._of_dropout[0])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(self._of_dropout[1], self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                logits = self.classifier(given).float()
            self._of_dropout = self._random_states()
        # Of the mean over this rank's images, the share that they are of the batch.
        loss = nn.functional.binary_cross_entropy_with_logits(logits, conditions)
        loss = loss * (len(conditions) / (share.images * share.copies))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature is untyped
        total = self.ranks.sum_gradients(self.classifier.parameters(), loss.detach())
        self.optimizer.step()
        self.schedule.step()
        return total.item()

    def _end(self, epoch: int) -> None:
        if not math.isfinite(self._loss_sum):
            raise LabError(
                f"the evaluator's loss is {self._loss_sum} in epoch {epoch + 1}; lower --evaluator.learning-rate "
                f"(currently {self.config.learning_rate:g})"
            )
        self.losses.append(self._loss_sum / len(self.dataset))
        self._loss_sum = 0.0

    def _forked(self) -> Any:
        return torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])

    def _random_states(self) -> list[Tensor]:
        on_device = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        return [torch.get_rng_state(), *on_device]

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on from here, as tensors and primitives."""
        return {
            "step": self.step,
            "classifier": self.classifier.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "losses": list(self.losses),
            "loss_sum": self._loss_sum,
            "generator": self._generator.get_state(),
            "dropout": self._of_dropout,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` returned for the same images and settings."""
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.losses, self._loss_sum = int(state["step"]), list(state["losses"]), float(state["loss_sum"])
        self._generator.set_state(state["generator"])
        self._of_dropout = list(state["dropout"])


def train_classifier(
    classifier: nn.Module, dataset: LabelledImages, config: EvaluatorConfig, seed: int, precision: str = "float32"
) -> Iterator[float]:
    """Train a classifier in place, on its own device, and yield each epoch's mean loss.

    Args: see `ClassifierTraining`.

    Raises:
        LabError: the loss is not finite.
    """
    training = ClassifierTraining(classifier, dataset, config, seed, precision)
    for step in training.steps():
        if step % len(training.sizes) == 0:
            yield training.losses[-1]
