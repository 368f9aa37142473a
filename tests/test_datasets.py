"""Images as pixels and as floats, and splits that share nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from lab.datasets import Splits, digits, stratified_splits, to_float, to_pixels


def test_the_digits_are_scikit_learns_own() -> None:
    dataset, source = digits(), load_digits()
    assert dataset.pixels.shape == (1797, 1, 8, 8)
    # 17 grey levels of 255 / 16 each, rounded to whole pixels.
    assert np.abs(dataset.pixels[:, 0].numpy() / 255 - source.images / 16).max() <= 0.5 / 255
    assert dataset.conditions.argmax(dim=1).tolist() == source.target.tolist()
    assert bool((dataset.conditions.sum(dim=1) == 1).all())


def test_every_pixel_survives_the_way_to_float_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = to_float(pixels)
    assert (float(images.min()), float(images.max())) == (-1, 1)
    assert torch.equal(to_pixels(images), pixels)


@given(st.floats(-3, 3))
def test_pixels_are_rounded_and_clamped(value: float) -> None:
    pixel = int(to_pixels(torch.full((1, 1, 1, 1), value)))
    exact = (min(max(value, -1), 1) + 1) * 127.5
    assert abs(pixel - exact) <= 0.5 + 1e-4


def rows(splits: Splits) -> list[set[bytes]]:
    return [
        {image.numpy().tobytes() for image in part.pixels}
        for part in (splits.generator, splits.evaluator, splits.held_out)
    ]


def test_splits_are_disjoint_complete_and_stratified() -> None:
    dataset = digits()
    splits = stratified_splits(dataset, evaluator_share=0.3, held_out_share=0.2, seed=0)
    parts = (splits.generator, splits.evaluator, splits.held_out)
    assert sum(map(len, parts)) == len(dataset)
    images = rows(splits)
    assert images[0].isdisjoint(images[1])
    assert images[0].isdisjoint(images[2])
    assert images[1].isdisjoint(images[2])
    share = dataset.conditions.mean(dim=0)
    for part, expected in zip(parts, (0.5, 0.3, 0.2), strict=True):
        assert len(part) == pytest.approx(expected * len(dataset), abs=1)
        torch.testing.assert_close(part.conditions.mean(dim=0), share, atol=0.005, rtol=0)


def test_the_seed_decides_the_splits() -> None:
    first, again, other = (rows(stratified_splits(digits(), 0.3, 0.2, seed)) for seed in (0, 0, 1))
    assert first == again
    assert first[0] != other[0]
