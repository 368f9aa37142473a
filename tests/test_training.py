"""Training: where its randomness comes from, what it averages, and that it goes on exactly."""

import math
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from lab.configuration.diffusion import CosineScheduleConfig
from lab.configuration.networks import ContextUnetConfig
from lab.configuration.training import TrainingConfig
from lab.data.datasets import digits
from lab.errors import LabError
from lab.machine.computation import Computation
from lab.training.ema import ema_update
from lab.training.recipe import Recipe
from lab.training.trainer import Trainer, drop_context, learning_rate_factor

CONFIG = TrainingConfig(epochs=3, batch_size=40, learning_rate=1e-3, warmup_steps=4, checkpoints=1)


def trainer(config: TrainingConfig = CONFIG, seed: int = 0, precision: str = "float32") -> Trainer:
    dataset = digits().subset(torch.arange(100))
    recipe = Recipe(ContextUnetConfig(n_feat=8), CosineScheduleConfig(), config, seed)
    return Trainer(recipe, dataset, Computation(precision=precision))


def test_context_is_dropped_for_each_image_on_its_own() -> None:
    conditions = torch.ones(100_000, 3)
    dropped = drop_context(conditions, 0.1, torch.Generator().manual_seed(0))
    null = (dropped == 0).all(dim=1)
    assert bool((null | (dropped == 1).all(dim=1)).all())
    # Four standard errors of a rate of 0.1 over 100,000 images.
    assert float(null.float().mean()) == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 100_000))
    pairs = null.view(-1, 2).float()
    assert float((pairs[:, 0] * pairs[:, 1]).mean()) == pytest.approx(0.01, abs=4 * math.sqrt(0.0099 / 50_000))
    assert bool((conditions == 1).all())


def test_the_learning_rate_rises_and_falls() -> None:
    config = replace(CONFIG, warmup_steps=10)
    assert learning_rate_factor(config, 0, 110) == pytest.approx(0.1)
    assert learning_rate_factor(config, 9, 110) == 1
    for falling, middle in (
        (replace(config, decay="cosine"), 0.5),
        (replace(config, decay="linear"), 0.5),
        (replace(config, decay="none"), 1),
    ):
        assert learning_rate_factor(falling, 10, 110) == 1
        assert learning_rate_factor(falling, 60, 110) == pytest.approx(middle)
    assert learning_rate_factor(replace(config, decay="cosine"), 109, 110) < 0.001


def test_the_ema_is_the_warmed_up_recursion() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    average = AveragedModel(network, multi_avg_fn=ema_update(0.5), use_buffers=True)
    expected = 0.0
    for n, value in enumerate((3.0, 5.0, 9.0, 1.0, 7.0, 2.0, 8.0, 4.0, 6.0, 0.0)):
        torch.nn.init.constant_(network.weight, value)
        average.update_parameters(network)
        decay = min(0.5, (1 + n) / (10 + n))
        # torch's own first update is a copy.
        expected = value if n == 0 else decay * expected + (1 - decay) * value
        assert average.state_dict()["module.weight"].item() == pytest.approx(expected, rel=1e-6)


def test_the_ema_follows_buffers_too() -> None:
    network = torch.nn.BatchNorm1d(1)
    average = AveragedModel(network, multi_avg_fn=ema_update(0.9), use_buffers=True)
    for value in (1.0, 2.0):
        network(torch.full((4, 1), value))
        average.update_parameters(network)
    assert average.state_dict()["module.num_batches_tracked"].item() == 2
    first, second = 0.1, 0.9 * 0.1 + 0.1 * 2
    assert average.state_dict()["module.running_mean"].item() == pytest.approx(
        2 / 11 * first + 9 / 11 * second, rel=1e-5
    )


def test_every_image_is_trained_on_once_an_epoch() -> None:
    steps = list(trainer().steps())
    assert [step.images for step in steps] == [40, 40, 20] * 3
    assert [step.ends_epoch for step in steps] == [False, False, True] * 3
    assert [step.epoch for step in steps] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [step.step for step in steps] == list(range(1, 10))


@pytest.mark.parametrize(("optimizer", "stop"), [("adamw", 1), ("adamw", 3), ("adamw", 5), ("muon", 3)])
def test_a_training_that_stopped_goes_on_to_the_same_bits(optimizer: Literal["adamw", "muon"], stop: int) -> None:
    config = replace(CONFIG, optimizer=optimizer)
    whole = trainer(config)
    losses = [step.loss for step in whole.steps()]

    first, second = trainer(config), trainer(config)
    before = []
    for step in first.steps():
        before.append(step.loss)
        if step.step == stop:
            break
    second.load_state_dict(first.state_dict())
    assert before + [step.loss for step in second.steps()] == losses
    assert [row["loss"] for row in second.log.rows] == [row["loss"] for row in whole.log.rows]
    for (name, expected), resumed in zip(whole.ema.state_dict().items(), second.ema.state_dict().values(), strict=True):
        assert torch.equal(expected, resumed), name


def test_the_loss_is_weighted() -> None:
    plain, weighted = trainer(), trainer(replace(CONFIG, weighting="min_snr", largest_weight=1e-6))
    # The weight of an error of the noise is at most largest_weight / SNR, and SNR is below 1 at most half the time.
    assert next(weighted.steps()).loss < 0.01 * next(plain.steps()).loss


def test_the_log_holds_the_mean_loss_of_each_epoch() -> None:
    run = trainer()
    steps = list(run.steps())
    for row, epoch in zip(run.log.rows, (1, 2, 3), strict=True):
        of_epoch = [step for step in steps if step.epoch == epoch]
        assert row["epoch"] == epoch
        assert row["loss"] == pytest.approx(sum(step.loss * step.images for step in of_epoch) / 100)
        assert (row["device"], row["precision"]) == ("cpu", "float32")


def test_the_log_tells_what_each_epoch_was_computed_in() -> None:
    first, second = trainer(), trainer(precision="bfloat16")
    for step in first.steps():
        if step.ends_epoch:
            break
    second.load_state_dict(first.state_dict())
    assert sum(1 for _ in second.steps()) == step.step * 2
    assert [row["precision"] for row in second.log.rows] == ["float32", "bfloat16", "bfloat16"]


class Recorder(torch.nn.Module):
    """A denoiser of one huge weight that remembers the conditions it was asked with."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1e6))
        self.conditions: list[torch.Tensor] = []

    def forward(self, x_t: torch.Tensor, timesteps: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        self.conditions.append(conditions)
        return self.weight * x_t


def recorded(config: TrainingConfig) -> tuple[Trainer, Recorder]:
    denoiser = Recorder()
    return Trainer(Recipe(training=config), digits().subset(torch.arange(1500)), network=denoiser), denoiser


def test_training_drops_the_context_it_was_told_to() -> None:
    run, denoiser = recorded(replace(CONFIG, epochs=2, batch_size=500, context_dropout=0.3, warmup_steps=0))
    list(run.steps())
    null = (torch.cat(denoiser.conditions) == 0).all(dim=1).float()
    assert len(null) == 3000
    assert float(null.mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 3000))


def test_the_optimizer_steps_at_the_rate_that_is_told_and_gradients_are_clipped() -> None:
    run, denoiser = recorded(replace(CONFIG, epochs=1, batch_size=500, warmup_steps=2, max_gradient_norm=0.5))
    for step in run.steps():
        assert [optimizer.param_groups[0]["lr"] for optimizer in run.optimizers] == [step.learning_rate]
        # The gradient of so huge a weight is about a million times the norm it is clipped to.
        assert denoiser.weight.grad is not None
        assert float(denoiser.weight.grad.abs()) == pytest.approx(0.5, rel=1e-4)


def test_the_seed_decides_and_the_global_rng_has_no_say() -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = [step.loss for step in trainer().steps()]
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert [step.loss for step in trainer().steps()] == first
    assert [step.loss for step in trainer(seed=1).steps()] != first


def test_a_loss_that_is_not_finite_stops_with_the_last_good_network_in_place() -> None:
    run = trainer()
    for step in run.steps():
        if step.step == 2:
            break
    good = {name: tensor.clone() for name, tensor in run.denoiser.state_dict().items()}
    run.dataset.conditions.fill_(float("nan"))
    told = "training stopped at step 2: the loss is nan, its gradient's norm nan; lower --training.learning-rate"
    with pytest.raises(LabError, match=told):
        list(run.steps())
    assert all(torch.equal(tensor, good[name]) for name, tensor in run.denoiser.state_dict().items())


class Cliff(torch.autograd.Function):
    """Nothing forward, an infinite gradient backward."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * math.inf


def test_a_gradient_that_is_not_finite_stops_before_any_weight_is_touched() -> None:
    run = trainer()
    next(run.steps())
    good = {name: tensor.clone() for name, tensor in run.denoiser.state_dict().items()}
    run.denoiser.register_forward_hook(lambda _, __, output: Cliff.apply(output))
    with pytest.raises(LabError, match=r"step 1: the loss is \d.*, its gradient's norm (inf|nan); lower"):
        list(run.steps())
    assert all(torch.equal(tensor, good[name]) for name, tensor in run.denoiser.state_dict().items())
