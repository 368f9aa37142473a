"""The tutorials' networks: their exact sizes, and the plain code of a tutorial beside them."""

import pytest
import torch
from torch import nn

from experiments.command_line import parse
from experiments.configuration import Experiment
from lab.configuration.diffusion import CosineScheduleConfig
from lab.configuration.networks import BasicUNetConfig, DenoiserConfig, UNet2DConfig
from lab.errors import LabError
from lab.networks.diffusers_unet import DiffusersUNet
from lab.networks.registry import build_denoiser
from tests.classes import some_classes

BASIC = BasicUNetConfig(n_feat=32, widths=(1, 2, 2), prediction="x_0")
SMALL = UNet2DConfig(conditional=False, n_feat=32, widths=(1, 2, 2), attended_levels=2)
LARGE = UNet2DConfig(conditional=False, n_feat=64, widths=(1, 1, 2), attended_levels=1)
LARGEST = UNet2DConfig(conditional=False, n_feat=64, widths=(1, 2, 2, 4), attended_levels=2)


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def built(config: DenoiserConfig, channels: int = 1, side: int = 8, classes: int = 10) -> nn.Module:
    return build_denoiser(config, (channels, side, side), some_classes(classes), CosineScheduleConfig(), 0).eval()


@pytest.mark.parametrize(
    ("config", "channels", "side", "parameters"),
    [(BASIC, 1, 28, 309_057), (SMALL, 1, 28, 1_707_009), (LARGE, 3, 32, 4_654_723), (LARGEST, 3, 32, 18_536_323)],
)
def test_sizes_are_the_tutorials(config: DenoiserConfig, channels: int, side: int, parameters: int) -> None:
    assert size(built(config, channels, side)) == parameters


def plain_basic_unet(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return what the tutorial's BasicUNet says of images in [0, 1], written line by line."""

    def layer(name: str, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=2)
        return y * torch.sigmoid(y)

    first = layer("downs.0", x)
    second = layer("downs.1", nn.functional.max_pool2d(first, 2))
    lowest = layer("downs.2", nn.functional.max_pool2d(second, 2))
    up = layer("ups.0", lowest)
    up = layer("ups.1", up.repeat_interleave(2, 2).repeat_interleave(2, 3) + second)
    return layer("ups.2", up.repeat_interleave(2, 2).repeat_interleave(2, 3) + first)


def test_basic_unet_is_the_tutorial_s() -> None:
    network = built(BASIC)
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = network(2 * x - 1, torch.zeros(3, dtype=torch.int64), torch.zeros(3, 10))
    torch.testing.assert_close((ours + 1) / 2, plain_basic_unet(network.state_dict(), x))


def test_unet2d_is_told_what_its_configuration_says() -> None:
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    early, late = torch.tensor([1, 1]), torch.tensor([300, 300])
    nothing, asked = torch.zeros(2, 10), torch.eye(10)[:2]
    told_time = built(SMALL)
    told_nothing = built(UNet2DConfig(conditional=False, n_feat=32, widths=(1, 2, 2), timed=False))
    told_all = built(UNet2DConfig(n_feat=32, widths=(1, 2, 2)))
    with torch.no_grad():
        assert not torch.equal(told_time(x, early, nothing), told_time(x, late, nothing))
        assert torch.equal(told_time(x, early, nothing), told_time(x, early, asked))
        assert torch.equal(told_nothing(x, early, nothing), told_nothing(x, late, asked))
        assert not torch.equal(told_all(x, early, nothing), told_all(x, early, asked))


def test_a_null_condition_adds_nothing_to_the_embedded_time() -> None:
    config = UNet2DConfig(n_feat=32, widths=(1, 2, 2), attended_levels=2)
    conditional, plain = built(config), built(SMALL)
    assert isinstance(conditional, DiffusersUNet)
    assert isinstance(plain, DiffusersUNet)
    plain.unet.load_state_dict(conditional.unet.state_dict())
    x, t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([5, 90])
    with torch.no_grad():
        torch.testing.assert_close(conditional(x, t, torch.zeros(2, 10)), plain(x, t, torch.zeros(2, 10)))


@pytest.mark.parametrize("config", [BASIC, SMALL])
def test_sides_that_cannot_be_halved_twice_are_refused(config: DenoiserConfig) -> None:
    with pytest.raises(LabError, match="divisible by 4"):
        built(config, side=10)


@pytest.mark.parametrize(
    ("arguments", "kind", "flag"),
    [
        (["--denoiser.kind", "basic_unet", "--denoiser.patch", "2"], "basic_unet", "--denoiser.patch"),
        (["--denoiser.attended-levels", "1"], "context_unet", "--denoiser.attended-levels"),
        (["--denoiser.kind=unet2d", "--denoiser.time", "none"], "unet2d", "--denoiser.time"),
        (["--denoiser.kind", "unet2d", "--denoiser.unet2d", "{}"], "unet2d", "--denoiser.unet2d"),
    ],
)
def test_a_field_of_another_network_is_refused(
    arguments: list[str], kind: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse("digits", arguments)
    told = capsys.readouterr().err
    assert "nrecognized" in told
    assert flag in told
    own = [word for word in arguments if word not in (flag, arguments[-1])]
    experiment = parse("digits", own)
    assert isinstance(experiment, Experiment)
    assert experiment.denoiser.kind == kind


def test_the_command_line_offers_no_imported_network() -> None:
    with pytest.raises(LabError, match="--denoiser.kind is 'imported_unet2d'.*choose from context_unet, basic_unet"):
        parse("digits", ["--denoiser.kind", "imported_unet2d"])
    experiment = parse("digits", ["--denoiser.kind", "unet2d", "--denoiser.no-conditional"])
    assert isinstance(experiment, Experiment)
    assert experiment.denoiser == UNet2DConfig(conditional=False, n_feat=32)


def test_unet2d_has_channels_for_its_groups() -> None:
    with pytest.raises(LabError, match="--denoiser.n-feat is 40; it must be a multiple of 32"):
        UNet2DConfig(n_feat=40)


def test_pixels_from_zero_to_one_are_those_of_the_images_shifted_and_scaled() -> None:
    config = UNet2DConfig(conditional=False, timed=False, n_feat=32, widths=(1, 2), prediction="x_0", zero_to_one=True)
    network, x = built(config), torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert isinstance(network, DiffusersUNet)
    with torch.no_grad():
        plain = network.unet(x, 0).sample
        torch.testing.assert_close(network(2 * x - 1, torch.tensor([7, 8]), torch.zeros(2, 10)), 2 * plain - 1)
    with pytest.raises(LabError, match="--denoiser.zero-to-one is for networks that predict the image"):
        UNet2DConfig(zero_to_one=True)
    with pytest.raises(LabError, match="--denoiser.widths has 9 levels; it must have from 1 to 8"):
        UNet2DConfig(widths=(1,) * 9)
