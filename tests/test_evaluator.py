"""The evaluator: what its training images go through, that it learns, and that its file is checked."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from evaluator.classifiers.jitter import blurred, jittered, lit
from evaluator.classifiers.networks import build_classifier, logits_in_batches
from evaluator.classifiers.training import batch_sizes, train_classifier, training_precision
from evaluator.classifiers.weights import Evaluator, load_evaluator, save_evaluator
from evaluator.configuration import EvaluatorConfig
from evaluator.judging.scoring import score
from lab.data.datasets import digits, stratified_splits
from lab.data.labelled_images import mirrored_at_random, to_float
from lab.errors import LabError
from lab.machine.files import load_tensors, save_tensors
from lab.machine.precision import has_bfloat16_units

CONFIG = EvaluatorConfig(width=16, epochs=20)
CPU = torch.device("cpu")
STILL = replace(CONFIG, rotation_degrees=0, scaling=0, shift=0)


def trained(config: EvaluatorConfig = CONFIG, seed: int = 0) -> tuple[Evaluator, list[float]]:
    splits = stratified_splits(digits(), 0.3, 0.2, 0)
    classifier = build_classifier(config, 1, 10, seed)
    losses = list(train_classifier(classifier, splits.evaluator, config, seed))
    return Evaluator(config, (1, 8, 8), splits.evaluator.vocabulary, classifier, {}), losses


def test_jitter_of_nothing_changes_nothing_and_fills_with_the_darkest() -> None:
    images = to_float(digits().pixels[:20])
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(jittered(images, STILL, generator), images, atol=1e-5, rtol=0)
    bright = torch.ones(200, 1, 8, 8)
    moved = jittered(bright, replace(STILL, shift=0.5), generator)
    assert float(moved.min()) == pytest.approx(-1, abs=1e-5)
    assert float(moved.max()) <= 1 + 1e-5


def test_jitter_shifts_by_at_most_the_share_asked_for() -> None:
    dot = torch.full((500, 1, 21, 21), -1.0)
    dot[:, :, 10, 10] = 1
    moved = jittered(dot, replace(STILL, shift=0.2), torch.Generator().manual_seed(0)) + 1
    place = torch.arange(21.0)
    centres = (moved.sum(dim=(1, 2)) * place).sum(dim=1) / moved.sum(dim=(1, 2, 3))
    # 0.2 of 21 pixels is 4.2; over 500 draws the largest comes close.
    assert float((centres - 10).abs().max()) == pytest.approx(4.2, abs=0.1)


def test_the_edge_can_go_on_outside() -> None:
    image = torch.linspace(-0.5, 0.5, 8).view(1, 1, 1, 8).expand(200, 1, 8, 8)
    moved = jittered(image, replace(STILL, shift=0.5, surroundings="edge"), torch.Generator().manual_seed(0))
    assert float(moved.min()) == pytest.approx(-0.5, abs=1e-5)
    assert float(moved.max()) == pytest.approx(0.5, abs=1e-5)


def test_half_of_the_images_are_mirrored_each_whole() -> None:
    images = torch.rand(4000, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mirrored = mirrored_at_random(images, torch.Generator().manual_seed(0))
    same, turned = ((mirrored == other).all(dim=(1, 2, 3)) for other in (images, images.flip(3)))
    assert bool((same ^ turned).all())
    # Four standard errors of a rate of 1/2 over 4,000 images.
    assert float(turned.float().mean()) == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)
    jitter = jittered(images, replace(STILL, mirror=True), torch.Generator().manual_seed(0))
    assert bool(((jitter - images).abs().amax(dim=(1, 2, 3)) > 1e-3).any())


def test_light_changes_brightness_by_the_share_asked_for_and_colours_by_a_third_of_it() -> None:
    grey = torch.full((4000, 3, 2, 2), 0.5)
    changed = ((lit(grey * 2 - 1, 0.3, torch.Generator().manual_seed(0)) + 1) / 2)[:, :, 0, 0]
    # Contrast and saturation keep the mean of a plain image, so it has brightness times the mean balance of 3 colours.
    gains = changed.mean(dim=1) / 0.5
    spread = (0.3**2 / 3 + 0.1**2 / 3 / 3) ** 0.5
    assert float(gains.std()) == pytest.approx(spread, rel=0.03)
    assert 0.7 * 0.9 <= float(gains.min()) < 0.72
    assert 1.28 < float(gains.max()) <= 1.3 * 1.1
    # Colours differ by their balance, times the contrast.
    between = (changed[:, 0] - changed[:, 1]) / changed.mean(dim=1)
    assert float(between.std()) == pytest.approx((2 * 0.1**2 / 3 * (1 + 0.3**2 / 3)) ** 0.5, rel=0.03)
    torch.testing.assert_close(lit(grey, 0.0, torch.Generator()), grey)


def test_a_blur_is_scipy_s_gaussian() -> None:
    images = torch.randn(3, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    deviations = torch.tensor([0.0, 0.5, 0.9])
    ours = blurred(images, deviations)
    torch.testing.assert_close(ours[0], images[0])
    for place in (1, 2):
        theirs = gaussian_filter(images[place].numpy(), float(deviations[place]), mode="nearest", radius=3, axes=(1, 2))
        torch.testing.assert_close(ours[place], torch.from_numpy(theirs), atol=1e-5, rtol=0)


def test_noise_has_at_most_the_deviation_asked_for() -> None:
    grey = torch.zeros(500, 1, 16, 16)
    added = jittered(grey, replace(STILL, noise=0.2), torch.Generator().manual_seed(0)).flatten(1).std(dim=1)
    # The deviation of 256 draws is within a few standard errors, each 1 / sqrt(512) of it.
    assert 0.18 < float(added.max()) < 0.2 * (1 + 4 / 512**0.5)
    assert float(added.mean()) == pytest.approx(0.1, abs=4 * 0.2 / 12**0.5 / 500**0.5)


@pytest.mark.parametrize(("side", "chosen"), [(8, "float32"), (27, "float32"), (28, "bfloat16"), (64, "bfloat16")])
def test_large_images_train_an_evaluator_in_bfloat16_where_there_are_units(side: int, chosen: str) -> None:
    expected = chosen if has_bfloat16_units(CPU) else "float32"
    assert training_precision("auto", CPU, side) == expected
    assert training_precision("float32", CPU, side) == "float32"


def test_an_evaluator_learns_in_bfloat16_and_judges_in_float32() -> None:
    splits = stratified_splits(digits(), 0.3, 0.2, 0)
    classifier = build_classifier(CONFIG, 1, 10, 0)
    losses = list(train_classifier(classifier, splits.evaluator, CONFIG, 0, "bfloat16"))
    assert losses[-1] < losses[0] / 4
    logits = logits_in_batches(classifier, splits.held_out.pixels)
    assert logits.dtype == torch.float32
    assert float((logits.argmax(1) == splits.held_out.conditions.argmax(1)).float().mean()) > 0.9


def test_an_object_counts_wherever_it_is() -> None:
    classifier = build_classifier(replace(CONFIG, kind="objects"), 3, 5, seed=0).eval()
    object_ = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    images = torch.zeros(3, 3, 64, 64)
    # Two halvings: moved by a multiple of 4 and far from the edge, it is the same to the network.
    for image, (top, left) in zip(images, ((24, 24), (28, 24), (36, 32)), strict=True):
        image[:, top : top + 4, left : left + 4] = object_
    logits = classifier(images)
    torch.testing.assert_close(logits, logits[:1].expand(3, -1), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(classifier(torch.zeros(1, 3, 64, 64)), logits[:1])


@pytest.mark.long
def test_a_short_training_reads_most_held_out_digits_and_the_file_keeps_it(tmp_path: Path) -> None:
    evaluator, losses = trained()
    held_out = stratified_splits(digits(), 0.3, 0.2, 0).held_out
    logits = logits_in_batches(evaluator.classifier, held_out.pixels, batch_size=7)
    assert score(logits, held_out.conditions).accuracy().value > 0.9
    assert losses[-1] < losses[0] / 3
    save_evaluator(tmp_path / "evaluator.pt", evaluator)
    loaded = load_evaluator(tmp_path / "evaluator.pt", evaluator.vocabulary, CPU)
    again = logits_in_batches(loaded.classifier, held_out.pixels)
    torch.testing.assert_close(again, logits, atol=1e-4, rtol=1e-4)
    assert loaded.vocabulary == evaluator.vocabulary


def test_the_seed_decides_and_the_global_rng_has_no_say() -> None:
    config = replace(CONFIG, epochs=1)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = trained(config)[1]
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert trained(config)[1] == first
    assert trained(config, seed=1)[1] != first


def test_a_file_of_another_format_or_shape_is_refused(tmp_path: Path) -> None:
    evaluator, _ = trained(replace(CONFIG, epochs=1))
    path = tmp_path / "evaluator.pt"
    save_evaluator(path, evaluator)
    content = load_tensors(path, "evaluator", "")
    save_tensors(path, content | {"format": 7})
    with pytest.raises(LabError, match="has format 7, but this version of the lab reads format 2"):
        load_evaluator(path, evaluator.vocabulary, CPU)
    save_tensors(path, content | {"image_shape": (3, 8, 8)})
    with pytest.raises(LabError, match="incomplete"):
        load_evaluator(path, evaluator.vocabulary, CPU)


@given(images=st.integers(1, 300), batch_size=st.integers(2, 70))
def test_no_batch_of_one_is_left_over(images: int, batch_size: int) -> None:
    sizes = batch_sizes(images, batch_size)
    assert sum(sizes) == images
    assert min(sizes) > 1 or images == 1
    assert all(size == batch_size for size in sizes[:-1])
    assert sizes[-1] <= batch_size + 1
