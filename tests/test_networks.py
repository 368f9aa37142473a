"""ContextUnet: the coursework's network parameter for parameter, and what its options change."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch

from lab.configuration.diffusion import CosineScheduleConfig
from lab.configuration.networks import (
    ANY_SIZE,
    BasicUNetConfig,
    ContextUnetConfig,
    DenoiserConfig,
    ImportedUNet2DConfig,
    UNet2DConfig,
)
from lab.data.labels import ClassVocabulary
from lab.errors import LabError
from lab.networks.blocks import Attention, ModulatedBlock, VectorBottleneck
from lab.networks.class_words import ClassWords
from lab.networks.context_unet import ContextUnet
from lab.networks.registry import NETWORKS, build_denoiser
from lab.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from tests.classes import some_classes

COURSEWORK = ContextUnetConfig(n_feat=128, norm="batch", null_condition="zeros", time="scalar", pool=7)


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def small(config: ContextUnetConfig | None = None, side: int = 8, channels: int = 1, classes: int = 10) -> ContextUnet:
    config = config or ContextUnetConfig(n_feat=8)
    network = build_denoiser(
        config, (channels, side, side), some_classes(classes), CosineScheduleConfig(), seed=0
    ).eval()
    assert isinstance(network, ContextUnet)
    return network


def test_the_coursework_network_has_its_parameters() -> None:
    network = ContextUnet(COURSEWORK, (3, 64, 64), some_classes(24), timesteps=400)
    assert parameters(network) == 7_578_627
    bottleneck = network.bottleneck
    assert isinstance(bottleneck, VectorBottleneck)
    assert bottleneck.to_vector(torch.zeros(1, 256, 16, 16)).shape == (1, 256, 2, 2)
    unpool = bottleneck.to_map[0]
    assert isinstance(unpool, torch.nn.ConvTranspose2d)
    assert unpool.kernel_size == unpool.stride == (8, 8)


def test_a_learned_null_condition_adds_only_its_embeddings() -> None:
    learned = ContextUnet(
        ContextUnetConfig(n_feat=128, norm="batch", time="scalar", pool=7), (3, 64, 64), some_classes(24), 400
    )
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
        ContextUnet(ContextUnetConfig(), shape, some_classes(10), 400)


def test_a_pool_that_does_not_fit_is_refused() -> None:
    with pytest.raises(LabError, match="--denoiser.pool is 7"):
        small(ContextUnetConfig(n_feat=8, pool=7))


@pytest.mark.parametrize("null_condition", ["learned", "zeros"])
def test_the_condition_and_the_time_reach_the_output(null_condition: Any) -> None:
    network = small(ContextUnetConfig(n_feat=8, null_condition=null_condition))
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


STRONG = ContextUnetConfig(
    n_feat=8, patch=2, widths=(1, 2, 2), conditioning="blocks", bottleneck="map", attention="objects"
)


def awake(network: ContextUnet) -> ContextUnet:
    """Give every parameter that begins at zero a value, as training does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1, generator=generator)
    return network


@pytest.mark.parametrize(
    "options",
    [
        {"patch": 2},
        {"widths": (1, 2, 4)},
        {"conditioning": "blocks"},
        {"bottleneck": "map"},
        {"attention": "map"},
        {"attention": "objects"},
        {"conditioning": "blocks", "null_condition": "zeros", "norm": "batch", "time": "scalar", "activation": "relu"},
    ],
)
def test_each_option_stands_by_itself(options: dict[str, Any]) -> None:
    plain, changed = small(side=16), awake(small(replace(ContextUnetConfig(n_feat=8), **options), side=16))
    assert parameters(changed) != parameters(plain)
    x_t = torch.randn(1, 1, 16, 16).expand(4, -1, -1, -1)
    conditions = torch.zeros(4, 10)
    conditions[1, 3] = conditions[2, 5] = 1
    noise = changed(x_t, torch.tensor([100, 100, 100, 300]), conditions)
    assert noise.shape == x_t.shape
    for i in range(4):
        for j in range(i):
            assert not torch.allclose(noise[i], noise[j])
    # Its gradient reaches every parameter, so none is there in vain.
    noise.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in changed.parameters())


def test_attention_sees_the_objects_asked_for_and_no_others() -> None:
    attention = Attention(16, side=4, classes=ClassWords(some_classes(5), ContextUnetConfig()))
    torch.nn.init.normal_(attention.out.weight)
    features, conditions = torch.randn(1, 16, 4, 4), torch.tensor([[0.0, 1, 0, 1, 0]])
    before = attention(features, conditions)
    for asked in range(5):
        objects = attention.objects
        assert objects is not None
        with torch.no_grad():
            objects[asked] += 1
        changed = not torch.allclose(attention(features, conditions), before)
        assert changed == bool(conditions[0, asked])
        before = attention(features, conditions)


COLOURED = ("red cube", "red sphere", "blue cube", "blue sphere")
IN_WORDS = ContextUnetConfig(n_feat=8, attention="objects", class_embedding="words")


def test_a_class_is_the_sum_of_its_words() -> None:
    words = ClassWords(COLOURED, IN_WORDS)
    table = torch.randn(4, 7)
    blue, cube, red, sphere = table
    torch.testing.assert_close(
        words.embedded(table), torch.stack((red + cube, red + sphere, blue + cube, blue + sphere))
    )
    asked = words(torch.tensor([[1.0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]]))
    assert asked.tolist() == [[1, 1, 1, 1], [0, 1, 2, 1], [0, 0, 0, 0]]


def test_classes_of_their_own_are_not_mixed() -> None:
    words = ClassWords(COLOURED, ContextUnetConfig(n_feat=8))
    conditions, table = torch.randn(3, 4), torch.randn(4, 7)
    assert words.count == 4
    assert words(conditions) is conditions
    assert words.embedded(table) is table


def test_words_keep_apart_what_is_asked_of_the_same_colours_and_shapes() -> None:
    # As sums, both label sets are one red, one blue, one cube and one sphere; attention sees which go together.
    network = build_denoiser(IN_WORDS, (1, 8, 8), COLOURED, CosineScheduleConfig(), seed=0).eval()
    assert isinstance(network, ContextUnet)
    for attention in network.attentions:
        assert isinstance(attention, Attention)
        torch.nn.init.normal_(attention.out.weight)
    x_t, timesteps = torch.randn(1, 1, 8, 8), torch.tensor([5])
    one, other = (network(x_t, timesteps, torch.tensor([asked])) for asked in ([1.0, 0, 0, 1], [0.0, 1, 1, 0]))
    assert not torch.allclose(one, other)


def test_a_network_of_words_is_stored_and_read_again(tmp_path: Path) -> None:
    network = build_denoiser(IN_WORDS, (1, 8, 8), COLOURED, CosineScheduleConfig(), seed=0)
    assert not [name for name in network.state_dict() if "matrix" in name]
    weights, schedule, vocabulary = network.state_dict(), CosineScheduleConfig(), ClassVocabulary(COLOURED)
    checkpoint = Checkpoint(IN_WORDS, schedule, (1, 8, 8), vocabulary, epoch=1, step=1, settings={}, weights=weights)
    save_checkpoint(tmp_path / "words.pt", checkpoint)
    loaded = load_checkpoint(tmp_path / "words.pt", vocabulary)
    inputs = torch.randn(2, 1, 8, 8), torch.tensor([1, 2]), torch.eye(4)[:2]
    torch.testing.assert_close(loaded.network(torch.device("cpu"))(*inputs), network.eval()(*inputs))


def test_words_that_cannot_tell_classes_apart_are_refused() -> None:
    with pytest.raises(LabError, match="cannot tell 'red cube' from 'cube red'"):
        ClassWords(("red cube", "blue cube", "cube red"), IN_WORDS)


def test_attention_is_torch_s_own_over_the_map() -> None:
    attention = Attention(64, side=5, classes=None)
    torch.nn.init.normal_(attention.out.weight)
    theirs = torch.nn.MultiheadAttention(64, 2, batch_first=True)
    ours = attention.state_dict()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours["places.weight"],
            "in_proj_bias": ours["places.bias"],
            "out_proj.weight": ours["out.weight"],
            "out_proj.bias": ours["out.bias"],
        }
    )
    features = torch.randn(3, 64, 5, 5)
    torch.nn.init.normal_(attention.positions)
    tokens = attention.norm(features).flatten(2).mT + attention.positions
    expected = features + theirs(tokens, tokens, tokens)[0].mT.unflatten(2, (5, 5))
    torch.testing.assert_close(attention(features, torch.zeros(3, 0)), expected)


def test_a_modulated_block_starts_as_its_skip() -> None:
    block = ModulatedBlock(16, 16, 8, ContextUnetConfig(n_feat=8))
    features = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(block(features, torch.randn(2, 8)), features)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"pool": 7, "bottleneck": "map"}, "--denoiser.pool is 7, which only"),
        ({"patch": 0}, "--denoiser.patch is 0"),
        ({"widths": (1, 0, 2)}, "--denoiser.widths is 0"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(LabError, match=told):
        ContextUnetConfig(**options)


def test_a_patch_that_does_not_divide_the_images_is_refused_with_those_that_do() -> None:
    with pytest.raises(
        LabError, match="--denoiser.patch is 2, .* 28x28 images is not divisible by 4 times that; choose from 1, 7$"
    ):
        small(STRONG, side=28)


def test_scalar_time_is_the_coursework_t_over_t() -> None:
    network = small(ContextUnetConfig(n_feat=8, time="scalar"))
    features = network._time_features(torch.tensor([0, 199, 399]))
    torch.testing.assert_close(features, torch.tensor([[1 / 400], [0.5], [1.0]]))


def test_initialisation_belongs_to_the_seed_and_leaves_the_global_rng_alone() -> None:
    state = torch.random.get_rng_state()
    first, again = small(), small()
    other = build_denoiser(ContextUnetConfig(n_feat=8), (1, 8, 8), some_classes(10), CosineScheduleConfig(), seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [network.state_dict()["out.0.weight"] for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@dataclass(frozen=True)
class OfAPlugIn:
    """Settings of a network that stands outside of the lab."""

    kind: Literal["one_layer"] = "one_layer"
    kernel: int = 3
    prediction: str = "noise"
    conditional: bool = False
    width: int = 1
    label_set_sizes: ClassVar[range] = ANY_SIZE


class OneLayer(torch.nn.Module):
    def __init__(self, config: OfAPlugIn, image_shape: tuple[int, int, int], classes: int, timesteps: int) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(image_shape[0], image_shape[0], config.kernel, padding="same")

    def forward(self, x_t: torch.Tensor, timesteps: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x_t)
        return out


def test_a_network_is_a_settings_class_and_a_line_of_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, schedule, classes = OfAPlugIn(kernel=5), CosineScheduleConfig(), ClassVocabulary(("a", "b"))
    assert isinstance(config, DenoiserConfig)
    with pytest.raises(LabError, match="OfAPlugIn is not a network; add it to lab.networks.registry.NETWORKS"):
        build_denoiser(config, (1, 8, 8), some_classes(2), schedule, seed=0)
    monkeypatch.setitem(NETWORKS, OfAPlugIn, OneLayer)
    weights = build_denoiser(config, (1, 8, 8), some_classes(2), schedule, seed=0).state_dict()
    save_checkpoint(tmp_path / "one.pt", Checkpoint(config, schedule, (1, 8, 8), classes, 1, 1, {}, weights))
    assert load_checkpoint(tmp_path / "one.pt", classes).denoiser == config
    monkeypatch.delitem(NETWORKS, OfAPlugIn)
    with pytest.raises(LabError, match="denoiser is 'one_layer'"):
        load_checkpoint(tmp_path / "one.pt", classes)


def test_what_a_network_knows_of_itself_stands_with_it() -> None:
    imported = {"block_out_channels": [8, 16]}
    classes = imported | {"num_class_embeds": 4}
    cases: list[tuple[DenoiserConfig, bool, range]] = [
        (ContextUnetConfig(), True, ANY_SIZE),
        (BasicUNetConfig(), False, ANY_SIZE),
        (UNet2DConfig(), True, ANY_SIZE),
        (UNet2DConfig(conditional=False), False, ANY_SIZE),
        (ImportedUNet2DConfig(unet2d=imported), False, ANY_SIZE),
        (ImportedUNet2DConfig(unet2d=classes), True, range(1, 2)),
        (ImportedUNet2DConfig(unet2d=classes, null_condition=True), True, range(2)),
    ]
    for config, conditional, sizes in cases:
        assert (config.conditional, config.label_set_sizes) == (conditional, sizes)
    with pytest.raises(LabError, match="denoiser.unet2d is no mapping of primitives"):
        ImportedUNet2DConfig(unet2d={"block_out_channels": (8, 16)})
