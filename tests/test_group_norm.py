"""GroupNorm in either memory format against torch's own, gradients included."""

import pytest
import torch
from torch import Tensor, nn

from lab.networks.group_norm import FEW_CHANNELS, GroupNorm

FORMATS = [torch.contiguous_format, torch.channels_last]


def outputs(norm: nn.Module, features: Tensor, towards: Tensor) -> list[Tensor]:
    """Return the output and the gradients of features, weight and bias."""
    features = features.clone().requires_grad_()
    out: Tensor = norm(features)
    (out * towards).sum().backward()  # type: ignore[no-untyped-call]  # torch's own signature is untyped
    gradients = [each.grad for each in (features, *norm.parameters())]
    assert all(each is not None for each in gradients)
    return [out.detach(), *(each.clone() for each in gradients if each is not None)]


@pytest.mark.parametrize("channels", [16, FEW_CHANNELS, FEW_CHANNELS + 16])
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("side", [1, 5])
def test_it_is_torchs_own_up_to_rounding(channels: int, memory_format: torch.memory_format, side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = GroupNorm(channels), nn.GroupNorm(8, channels)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(generator=generator)
    ours.load_state_dict(theirs.state_dict())
    shape = (3, channels, side, side)
    features = 5 + torch.randn(shape, generator=generator).contiguous(memory_format=memory_format)
    towards = torch.randn(shape, generator=generator)
    # In the contiguous format, torch's own code is another than the one that ours avoids.
    expected = outputs(theirs, features.contiguous(), towards)
    for found, wanted in zip(outputs(ours, features, towards), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("channels", [16, FEW_CHANNELS, FEW_CHANNELS + 16])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_the_memory_format_stays(channels: int, memory_format: torch.memory_format) -> None:
    features = torch.randn(2, channels, 4, 4).contiguous(memory_format=memory_format)
    assert GroupNorm(channels)(features).is_contiguous(memory_format=memory_format)


def test_features_without_a_map_are_normalised_too() -> None:
    features = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(GroupNorm(16)(features), nn.GroupNorm(8, 16)(features))
