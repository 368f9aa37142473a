"""Training of a denoiser: a generator of steps.

    loss = mean weight_t (eps(x_t, t, condition) - noise)^2,    t uniform over the timesteps

with each image's condition replaced by the null condition with probability `context_dropout` (Ho & Salimans 2022,
algorithm 1). The weights are 1 by default; `lab/diffusion/objectives.py` has others, and what else may be predicted.
All randomness is derived from (seed, epoch) and (seed, step), so training resumes without RNG state.
"""

import math
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lab.configuration.training import TrainingConfig
from lab.data.labelled_images import LabelledImages, mirrored_at_random, to_float
from lab.diffusion.objectives import loss_weights, target
from lab.diffusion.schedules import noise_schedule
from lab.errors import LabError
from lab.machine.batch_layers import compute_over_ranks
from lab.machine.computation import Computation
from lab.machine.precision import InPrecision, as_compiled
from lab.machine.ranks import Ranks
from lab.networks.registry import build_denoiser
from lab.training.checkpoints import Checkpoint
from lab.training.distillation import load_teacher, require_student, teacher_of
from lab.training.ema import ema, ema_update, power_update
from lab.training.optimizers import OPTIMIZERS
from lab.training.power_ema import gamma_of
from lab.training.recipe import Recipe
from lab.training.start import starting_weights
from lab.types import Conditions

EPOCH_STREAM, STEP_STREAM = 0, 1


def generator_for(seed: int, stream: int, index: int) -> torch.Generator:
    """Return the CPU generator of one epoch (stream 0) or one step (stream 1) of a run."""
    return torch.Generator().manual_seed((seed * 2 + stream) * 1_000_000_007 + index)


def steps_per_epoch(dataset: LabelledImages, config: TrainingConfig) -> int:
    """Return the optimizer steps in one pass over a dataset.

    Raises:
        LabError: the dataset is smaller than a batch, and smaller batches are left out.
    """
    if not config.drop_last:
        return math.ceil(len(dataset) / config.batch_size)
    if len(dataset) < config.batch_size:
        raise LabError(
            f"--training.drop-last leaves no batch of {config.batch_size}: the generator has {len(dataset)} images; "
            f"lower --training.batch-size"
        )
    return len(dataset) // config.batch_size


def drop_context(conditions: Conditions, probability: float, generator: torch.Generator) -> Conditions:
    """Replace each row by the null condition with this probability, each row on its own."""
    dropped = torch.rand(len(conditions), generator=generator) < probability
    return conditions.masked_fill(dropped.to(conditions.device)[:, None], 0.0)


def learning_rate_factor(config: TrainingConfig, step: int, total_steps: int) -> float:
    """Return the share of the highest learning rate used in optimizer step `step`, counted from 0.

    It rises linearly over `warmup_steps`, then falls from 1 to 0 over the remaining steps, or over the epochs.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.decay == "linear_epochs":
        return 1 - (step * config.epochs // total_steps) / config.epochs
    progress = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    return DECAYS[config.decay](progress)


DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    "linear": lambda progress: 1 - progress,
    "none": lambda progress: 1.0,
}


@dataclass(frozen=True)
class Step:
    """What one optimizer step did.

    Args:
        step: optimizer steps done so far, this one included.
        epoch: the epoch it belongs to, counted from 1.
        ends_epoch: True where it is its epoch's last.
        loss: weighted mean squared error of what is predicted, before the step.
        learning_rate: the rate it was taken with.
        gradient_norm: the norm of the loss's gradient, before it is scaled down.
        images: images in its batch.
    """

    step: int
    epoch: int
    ends_epoch: bool
    loss: float
    learning_rate: float
    gradient_norm: float
    images: int


@dataclass
class EpochLog:
    """The rows of `training.csv` and the loss of every step, gathered step by step; part of the training's state."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    loss_sum: float = 0.0
    images: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        columns = {"epoch", "step", "loss", "learning_rate", "images_per_second", "device", "precision"}
        if not isinstance(self.rows, list) or not all(
            isinstance(row, dict) and row.keys() >= columns for row in self.rows
        ):
            raise ValueError("the rows of training.csv are none")
        if not isinstance(self.losses, list) or not all(
            isinstance(value, int | float) for value in (*self.losses, self.loss_sum, self.images, self.seconds)
        ):
            raise ValueError("the sums of an epoch are no numbers")

    def add(self, step: Step, seconds: float, device: str, precision: str) -> None:
        """Take a step and what it cost into account; a row is added where it ends its epoch.

        A training that went on elsewhere has epochs of several devices; a row tells where its last step was taken.
        """
        self.losses.append(step.loss)
        self.loss_sum += step.loss * step.images
        self.images += step.images
        self.seconds += seconds
        if step.ends_epoch:
            self.rows.append(
                {
                    "epoch": step.epoch,
                    "step": step.step,
                    "loss": self.loss_sum / self.images,
                    "learning_rate": step.learning_rate,
                    "images_per_second": self.images / self.seconds,
                    "device": device,
                    "precision": precision,
                }
            )
            self.loss_sum, self.images, self.seconds = 0.0, 0, 0.0


def untrained_network(recipe: Recipe, dataset: LabelledImages) -> nn.Module:
    """Return the network that a recipe describes, fresh or with the weights of its teacher or its start.

    Raises:
        LabError: the network does not fit the images, or it and the teacher do not go together.
    """
    require_student(recipe, dataset)
    network = build_denoiser(
        recipe.denoiser, dataset.image_shape, dataset.vocabulary.names, recipe.schedule, recipe.seed
    )
    if recipe.training.start_from is not None:
        network.load_state_dict(starting_weights(recipe.training.start_from, recipe, dataset))
    if recipe.teacher is not None:
        load_teacher(network, recipe.teacher)
    return network


class Trainer:
    """A denoiser in training: the network, its EMA copies, its optimizer and the number of steps done.

    Args:
        recipe: what to train, and how.
        dataset: the generator's split.
        computation: where and how.
        network: the network to train, in place; by default `untrained_network`.
        ranks: the processes that train it together, each of which has such a trainer; by default this one alone.

    Raises:
        LabError: the network does not fit the images.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: LabelledImages,
        computation: Computation | None = None,
        network: nn.Module | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        computation = computation or Computation()
        network = untrained_network(recipe, dataset) if network is None else network
        self.recipe, self.config, self.seed = recipe, recipe.training, recipe.seed
        self.denoiser = network.to(computation.device)
        # Once: to walk the modules of a small network at every step takes a fifteenth of it.
        self.trained_parameters = list(self.denoiser.parameters())
        compiled = as_compiled(self.denoiser) if computation.compiled else self.denoiser
        self.computed = InPrecision(compiled, computation.precision)
        self.ema = ema(self.denoiser, ema_update(self.config.ema_decay))
        self.power_emas = [ema(self.denoiser, power_update(gamma_of(length))) for length in self.config.power_emas]
        self.teacher = teacher_of(recipe, computation)
        self.ranks = ranks or Ranks()
        compute_over_ranks(self.denoiser, self.ranks)
        self.optimizers = OPTIMIZERS[self.config.optimizer](self.denoiser, self.config)
        self.schedule = noise_schedule(recipe.schedule)
        self.timesteps = torch.arange(self.schedule.timesteps) if self.teacher is None else self.teacher.timesteps
        self.dataset = dataset
        self.step = 0
        self.log = EpochLog()

    @property
    def prediction(self) -> str:
        """What the network predicts, one of `lab.diffusion.objectives.TARGETS`."""
        return self.recipe.denoiser.prediction

    def checkpoint(self, settings: dict[str, Any] | None = None) -> Checkpoint:
        """Return the EMA copy as it is now, ready to sample from.

        Args:
            settings: what else decided the training, as nested dictionaries of primitives.
        """
        return Checkpoint(
            denoiser=self.recipe.denoiser,
            schedule=self.recipe.schedule,
            image_shape=self.dataset.image_shape,
            vocabulary=self.dataset.vocabulary,
            epoch=math.ceil(self.step / self.steps_per_epoch),
            step=self.step,
            settings=settings or {},
            weights=self.ema.module.state_dict(),
        )

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.config.epochs * self.steps_per_epoch

    @property
    def steps_so_far(self) -> int:
        """Optimizer steps that are done."""
        return self.step

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the dataset."""
        return steps_per_epoch(self.dataset, self.config)

    def steps(self) -> Generator[Step, None, None]:
        """Train from the step reached so far to the end, yielding after the optimizer and the EMAs have stepped.

        Of several ranks, the first decides how far: where its steps are no longer called for, all leave the training.

        Raises:
            LabError: the loss or its gradient is no longer finite. The network of the last finite step is in place.
        """
        device = next(self.denoiser.parameters()).device
        self.denoiser.train()
        order, order_of = torch.empty(0), -1
        with self.ranks.training():
            while self.step < self.total_steps and self.ranks.next_step():
                epoch, batch = divmod(self.step, self.steps_per_epoch)
                if epoch != order_of:
                    order = torch.randperm(len(self.dataset), generator=generator_for(self.seed, EPOCH_STREAM, epoch))
                    order_of = epoch
                chosen = order[batch * self.config.batch_size : (batch + 1) * self.config.batch_size]
                factor = learning_rate_factor(self.config, self.step, self.total_steps)
                learning_rate = self.config.learning_rate * factor
                started = time.perf_counter()
                loss, gradient_norm = self._optimize(chosen, learning_rate, device)
                for average in (self.ema, *self.power_emas):
                    average.update_parameters(self.denoiser)
                self.step += 1
                done = Step(
                    step=self.step,
                    epoch=epoch + 1,
                    ends_epoch=batch + 1 == self.steps_per_epoch,
                    loss=loss,
                    learning_rate=learning_rate,
                    gradient_norm=gradient_norm,
                    images=len(chosen),
                )
                self.log.add(done, time.perf_counter() - started, str(device), self.computed.precision)
                yield done

    def _optimize(self, chosen: Tensor, learning_rate: float, device: torch.device) -> tuple[float, float]:
        """Take one step and return its loss and the norm of its gradient.

        Randomness is that of the whole batch, of which this rank then computes its share.
        """
        generator = generator_for(self.seed, STEP_STREAM, self.step)
        x_0 = to_float(self.dataset.pixels[chosen])
        if self.config.mirror:
            x_0 = mirrored_at_random(x_0, generator)
        noise = self.schedule.noise(x_0.shape, generator)
        timesteps = self.timesteps[torch.randint(len(self.timesteps), (len(chosen),), generator=generator)]
        conditions = drop_context(self.dataset.conditions[chosen], self.config.context_dropout, generator)
        if self.teacher is not None:
            conditions = self.teacher.with_drawn_weights(conditions, generator)
        share = self.ranks.shared(len(chosen))
        x_0, noise, timesteps, conditions = (each[share.rows] for each in (x_0, noise, timesteps, conditions))
        x_t = self.schedule.noised(x_0, timesteps, noise)
        wanted = (
            target(self.prediction, x_0, noise, timesteps, self.schedule)
            if self.teacher is None
            else self.teacher.target(x_t.to(device), timesteps.to(device), conditions.to(device))
        )
        weights = loss_weights(
            self.prediction, self.config.weighting, self.config.largest_weight, timesteps, self.schedule
        )

        predicted = self.computed(x_t.to(device), timesteps.to(device), conditions.to(device))
        errors = (predicted - wanted.to(device)).square().mean(dim=(1, 2, 3))
        loss: Tensor = (weights.to(device) * errors).sum() / (share.images * share.copies)
        for parameter in self.trained_parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature is untyped
        total = self.ranks.sum_gradients(self.trained_parameters, loss.detach())
        norm = nn.utils.clip_grad_norm_(self.trained_parameters, self.config.max_gradient_norm or math.inf)
        # Both in one wait for the device, and before a weight is touched: a finite loss may have infinite gradients.
        value, gradient = map(float, torch.stack((total, norm)).tolist())
        if not (math.isfinite(value) and math.isfinite(gradient)):
            raise LabError(
                f"training stopped at step {self.step}: the loss is {value}, its gradient's norm {gradient}; lower "
                f"--training.learning-rate (now {self.config.learning_rate:g}). Checkpoints saved so far are intact"
            )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
        return value, gradient

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on from here, as tensors and primitives."""
        return {
            "step": self.step,
            "denoiser": self.denoiser.state_dict(),
            "ema": self.ema.state_dict(),
            "power_emas": [average.state_dict() for average in self.power_emas],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "log": asdict(self.log),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` returned for the same configuration."""
        self.denoiser.load_state_dict(state["denoiser"])
        self.ema.load_state_dict(state["ema"])
        # States from before there were such EMAs have none.
        for average, saved in zip(self.power_emas, state.get("power_emas", ()), strict=True):
            average.load_state_dict(saved)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = int(state["step"])
        self.log = EpochLog(**state["log"])
