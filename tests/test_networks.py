"""ContextUnet: the coursework's network parameter for parameter, and what its options change."""

import pytest
import torch

from lab.blocks import VectorBottleneck
from lab.configuration import DenoiserConfig, ScheduleConfig
from lab.errors import LabError
from lab.networks import ContextUnet, build_denoiser

COURSEWORK = DenoiserConfig(n_feat=128, norm="batch", null_condition="zeros", time="scalar", pool=7)


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def small(config: DenoiserConfig | None = None, side: int = 8, channels: int = 1, classes: int = 10) -> ContextUnet:
    config = config or DenoiserConfig(n_feat=8)
    return build_denoiser(config, (channels, side, side), classes, ScheduleConfig(), seed=0).eval()


def test_the_coursework_network_has_its_parameters() -> None:
    network = ContextUnet(COURSEWORK, (3, 64, 64), classes=24, timesteps=400)
    assert parameters(network) == 7_578_627
    bottleneck = network.bottleneck
    assert isinstance(bottleneck, VectorBottleneck)
    assert bottleneck.to_vector(torch.zeros(1, 256, 16, 16)).shape == (1, 256, 2, 2)
    unpool = bottleneck.to_map[0]
    assert isinstance(unpool, torch.nn.ConvTranspose2d)
    assert unpool.kernel_size == unpool.stride == (8, 8)


def test_a_learned_null_condition_adds_only_its_embeddings() -> None:
    learned = ContextUnet(DenoiserConfig(n_feat=128, norm="batch", time="scalar", pool=7), (3, 64, 64), 24, 400)
    assert parameters(learned) == 7_578_627 + 256 + 128


@pytest.mark.parametrize("side", [4, 8, 12, 28, 32])
@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (3, 24)])
def test_the_noise_is_shaped_like_the_image(side: int, channels: int, classes: int) -> None:
    network = small(side=side, channels=channels, classes=classes)
    x_t = torch.randn(2, channels, side, side)
    assert network(x_t, torch.tensor([0, 399]), torch.zeros(2, classes)).shape == x_t.shape


@pytest.mark.parametrize("shape", [(1, 8, 12), (1, 10, 10), (1, 0, 0)])
def test_a_side_that_does_not_halve_twice_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(LabError, match="square side divisible by 4"):
        ContextUnet(DenoiserConfig(), shape, 10, 400)


def test_a_pool_that_does_not_fit_is_refused() -> None:
    with pytest.raises(LabError, match="--denoiser.pool is 7"):
        small(DenoiserConfig(n_feat=8, pool=7))


@pytest.mark.parametrize("null_condition", ["learned", "zeros"])
def test_the_condition_and_the_time_reach_the_output(null_condition: str) -> None:
    network = small(DenoiserConfig(n_feat=8, null_condition=null_condition))  # type: ignore[arg-type]
    x_t = torch.randn(1, 1, 8, 8).expand(4, -1, -1, -1)
    conditions = torch.zeros(4, 10)
    conditions[1, 3] = conditions[2, 5] = 1
    noise = network(x_t, torch.tensor([100, 100, 100, 300]), conditions)
    for i in range(4):
        for j in range(i):
            assert not torch.allclose(noise[i], noise[j])


def test_the_learned_null_condition_is_not_the_embedding_of_zeros() -> None:
    network = small()
    x_t, timesteps, conditions = torch.randn(2, 1, 8, 8), torch.tensor([5, 5]), torch.zeros(2, 10)
    conditions[1, 0] = 1
    before = network(x_t, timesteps, conditions)
    with torch.no_grad():
        dict(network.named_parameters())["embeddings.0.null"].fill_(2.0)
    after = network(x_t, timesteps, conditions)
    assert not torch.allclose(before[0], after[0])
    torch.testing.assert_close(before[1], after[1])


def test_scalar_time_is_the_coursework_t_over_t() -> None:
    network = small(DenoiserConfig(n_feat=8, time="scalar"))
    features = network._time_features(torch.tensor([0, 199, 399]))
    torch.testing.assert_close(features, torch.tensor([[1 / 400], [0.5], [1.0]]))


def test_initialisation_belongs_to_the_seed_and_leaves_the_global_rng_alone() -> None:
    state = torch.random.get_rng_state()
    first, again = small(), small()
    other = build_denoiser(DenoiserConfig(n_feat=8), (1, 8, 8), 10, ScheduleConfig(), seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.out[0].weight, again.out[0].weight)  # type: ignore[arg-type]
    assert not torch.equal(first.out[0].weight, other.out[0].weight)  # type: ignore[arg-type]
