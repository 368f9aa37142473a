"""Quality: the table's rows, the features it is measured in, and that it tells copies and repeats from new images."""

from collections.abc import Hashable
from typing import Any, get_args, get_type_hints

import pytest
import torch

from evaluator.classifiers.networks import CLASSIFIERS, build_classifier, features_in_batches, logits_in_batches
from evaluator.configuration import EvaluatorConfig
from evaluator.judging.cells import JudgedCell
from evaluator.quality.measures import SMALLEST_SAMPLE, QualityMeasures, sample_size
from lab.data.datasets import Splits, digits, stratified_splits
from lab.data.labelled_images import spread_evenly
from lab.data.labels import LabelSet
from lab.types import PixelImages

IMAGES = 120


@pytest.fixture(scope="module")
def splits() -> Splits:
    return stratified_splits(digits().subset(torch.arange(600)), 0.3, 0.3, 0)


@pytest.fixture(scope="module")
def measures(splits: Splits) -> QualityMeasures:
    second = build_classifier(EvaluatorConfig(kind="objects", width=8), 1, 10, 1).eval()
    return QualityMeasures(second, splits.generator, splits.held_out, IMAGES)


def cell(pixels: PixelImages, weight: float = 1.0) -> JudgedCell:
    label_sets: list[LabelSet] = [(str(i % 10),) for i in range(len(pixels))]
    settings = {"checkpoint": "epoch0001", "epoch": 1, "label_set": "test", "guidance_method": "plain"}
    settings |= {"guidance_weight": weight, "network_evaluations": 16}
    return JudgedCell(settings, {}, label_sets, lambda: pixels, torch.zeros(len(pixels), 10))


def table(measures: QualityMeasures, pixels: PixelImages) -> dict[Hashable, float]:
    return dict(measures.table([cell(pixels)]).iloc[1])


def test_cells_of_too_few_images_do_not_decide_how_many_the_others_use() -> None:
    assert sample_size([2, 40, SMALLEST_SAMPLE, 90], 300) == SMALLEST_SAMPLE
    assert sample_size([2, SMALLEST_SAMPLE - 1], 300) == 300
    assert sample_size([], 300) == 300


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_features_are_what_the_last_layer_is_given(kind: Any) -> None:
    assert kind in get_args(get_type_hints(EvaluatorConfig)["kind"])
    classifier = build_classifier(EvaluatorConfig(kind=kind, width=8), 1, 10, 0).eval()
    pixels = digits().pixels[:7].repeat(1, 1, 4, 4)
    features = features_in_batches(classifier, pixels, batch_size=3)
    last = [module for module in classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.inference_mode():
        torch.testing.assert_close(last(features), logits_in_batches(classifier, pixels))


def test_real_images_stand_first_and_all_rows_use_as_many_images(measures: QualityMeasures, splits: Splits) -> None:
    rows = measures.table([cell(splits.held_out.pixels), cell(splits.held_out.pixels.flip(0), weight=2.0)])
    assert rows["of"].tolist() == ["real held-out images", "generated images", "generated images"]
    assert list(rows["images"]) == [IMAGES] * 3
    assert list(rows["guidance_weight"])[1:] == [1, 2]
    same = ["coverage", "density", "precision", "recall", "frechet_distance", "nearest_training_distance"]
    first, second = rows.head(2)[same].to_numpy().tolist()
    assert first == second
    for name in ("coverage", "frechet_distance", "kernel_distance", "intra_set_distance", "second_accuracy"):
        assert bool((rows[f"{name}_low"] <= rows[name]).all())
        assert bool((rows[name] <= rows[f"{name}_high"]).all())


def test_copies_of_training_images_are_found_out(measures: QualityMeasures, splits: Splits) -> None:
    copied, real = table(measures, splits.generator.pixels), table(measures, splits.held_out.pixels)
    assert copied["nearest_training_distance"] == 0
    assert real["nearest_training_distance_low"] > 0


def test_one_image_repeated_covers_little(measures: QualityMeasures, splits: Splits) -> None:
    repeated = table(measures, splits.held_out.pixels[:1].repeat(IMAGES, 1, 1, 1))
    real = table(measures, splits.held_out.pixels)
    assert repeated["coverage"] < real["coverage"] / 4
    assert repeated["intra_set_distance"] == 0
    assert repeated["frechet_distance"] > real["frechet_distance"]


def test_noise_is_far_from_everything(measures: QualityMeasures, splits: Splits) -> None:
    noise = torch.randint(256, (IMAGES, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found, real = table(measures, noise), table(measures, splits.held_out.pixels)
    assert found["precision_high"] < real["precision_low"]
    assert found["frechet_distance"] > 2 * real["frechet_distance"]


def test_saturated_pixels_are_counted(measures: QualityMeasures) -> None:
    pixels = torch.full((IMAGES, 1, 8, 8), 128, dtype=torch.uint8)
    pixels[:, :, :2, :4], pixels[:, :, 2:4, :4] = 0, 255
    assert table(measures, pixels)["saturated_share"] == 0.25


def test_images_are_chosen_evenly() -> None:
    assert spread_evenly(3, 5).tolist() == [0, 2, 4]
    assert spread_evenly(9, 4).tolist() == [0, 1, 2, 3]
