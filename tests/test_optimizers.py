"""Optimizers: Muon's step against torch's own and against a singular value decomposition."""

import pytest
import torch
from torch import nn

from lab.configuration.diffusion import CosineScheduleConfig
from lab.configuration.networks import ContextUnetConfig
from lab.configuration.training import TrainingConfig
from lab.networks.registry import build_denoiser
from lab.training.muon import Muon, orthogonalised
from lab.training.optimizers import OPTIMIZERS, hidden_matrices
from tests.classes import some_classes


def matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(32, 32), (48, 432), (192, 40)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_what_is_orthogonalised_keeps_its_directions_and_loses_its_lengths(
    shape: tuple[int, int], scale: float
) -> None:
    of = matrix(*shape)
    u, lengths, v = torch.linalg.svd(of, full_matrices=False)
    turned = u.mT @ orthogonalised(of * scale) @ v.mT
    # The iteration is steep at 0: only what is a hundredth of the norm or more is promised.
    long = lengths > 0.01 * of.norm()
    assert bool(((turned.diagonal() > 0.6) & (turned.diagonal() < 1.3))[long].all())
    assert float((turned - turned.diagonal().diag()).abs().max()) < 1e-4


def test_a_matrix_is_stepped_as_by_torch() -> None:
    ours, theirs = nn.Parameter(matrix(48, 64)), nn.Parameter(matrix(48, 64))
    muon = Muon([ours], lr=0.01, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(1, 5):
        before = ours.detach().clone()
        theirs.data = before.clone()
        for parameter, optimizer in ((ours, muon), (theirs, reference)):
            parameter.grad = matrix(48, 64, seed=step)
            optimizer.step()
        # Torch iterates in bfloat16, of three digits, five times.
        error = (ours - theirs).detach().norm() / (theirs.detach() - before).norm()
        assert float(error) < 0.03


def test_a_convolution_is_stepped_as_its_matrix_in_every_memory_format() -> None:
    gradient = torch.randn(32, 8, 3, 3, generator=torch.Generator().manual_seed(1))
    flat = nn.Parameter(matrix(32, 72))
    for memory_format in (torch.contiguous_format, torch.channels_last):
        flat.data, flat.grad = matrix(32, 72), gradient.flatten(1)
        kernel = nn.Parameter(matrix(32, 72).view(32, 8, 3, 3).clone(memory_format=memory_format))
        kernel.grad = gradient.clone(memory_format=memory_format)
        for parameter in (flat, kernel):
            Muon([parameter], lr=0.1, weight_decay=0.0).step()
        torch.testing.assert_close(kernel.detach().flatten(1), flat.detach())


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_parameter_is_stepped_by_one_optimizer(kind: str) -> None:
    config = ContextUnetConfig(n_feat=32, patch=2, conditioning="blocks", bottleneck="map", attention="objects")
    network = build_denoiser(config, (3, 16, 16), some_classes(24), CosineScheduleConfig(), 0)
    optimizers = OPTIMIZERS[kind](network, TrainingConfig())
    stepped = [
        id(parameter) for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]
    ]
    assert sorted(stepped) == sorted(map(id, network.parameters()))


def test_the_ends_of_a_network_are_not_its_hidden_matrices() -> None:
    config = ContextUnetConfig(n_feat=32, conditioning="blocks", bottleneck="map", attention="objects")
    network = build_denoiser(config, (3, 16, 16), some_classes(24), CosineScheduleConfig(), 0)
    hidden = {id(weight) for weight in hidden_matrices(network)}
    names = {name for name, parameter in network.named_parameters() if id(parameter) in hidden}
    assert "attentions.0.places.weight" in names
    assert "up1.doubling.weight" in names
    assert "out.0.weight" in names
    for left in ("initial.first.0.weight", "out.3.weight", "embeddings.0.context.0.weight", "attentions.0.objects"):
        assert left not in names, left
