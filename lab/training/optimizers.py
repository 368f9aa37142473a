"""Optimizers by name; each is a list, since Muon is for matrices alone and leaves the rest of a network to AdamW."""

from collections.abc import Callable, Iterable

from torch import nn
from torch.optim import AdamW, Optimizer

from lab.configuration.training import TrainingConfig
from lab.training.muon import Muon

LAYERS_OF_MATRICES = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
SMALLEST_SIDE = 32
"""A matrix with fewer rows or columns is left to AdamW: those beside the image, the classes and the output."""


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """Return the weights of the layers between a network's ends: its large matrices, convolutions taken for such."""
    layers = [module for module in network.modules() if isinstance(module, LAYERS_OF_MATRICES)]
    weights = [layer.get_parameter("weight") for layer in layers]
    return [weight for weight in weights if min(weight.shape[0], weight[0].numel()) >= SMALLEST_SIDE]


def _adamw(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> AdamW:
    return AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def _muon(network: nn.Module, config: TrainingConfig) -> list[Optimizer]:
    matrices = hidden_matrices(network)
    of_matrices = {id(matrix) for matrix in matrices}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in of_matrices]
    return [Muon(matrices, config.learning_rate, config.weight_decay), _adamw(rest, config)]


OPTIMIZERS: dict[str, Callable[[nn.Module, TrainingConfig], list[Optimizer]]] = {
    "adamw": lambda network, config: [_adamw(network.parameters(), config)],
    "muon": _muon,
}
"""The optimizers that step a network together, each parameter in one of them."""
