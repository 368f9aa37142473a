"""Measures of quality: how real, how varied and how new the images are, in the second evaluator's features.

The second evaluator has another architecture and seed than the evaluator that ranks, and was trained on other images.
Real images are those that trained the generator. The reference row is of real held-out images, which no network was
trained on: the values of perfect images. All rows use the same number of images, because most measures depend on it.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from evaluator.classifiers.networks import features_in_batches, logits_in_batches
from evaluator.judging.cells import CELL, JudgedCell
from evaluator.judging.intervals import bootstrap_mean, interval_columns, ratio_interval
from evaluator.judging.scoring import score
from evaluator.quality.feature_distances import FrechetDistance, KernelDistance, frechet_interval, kernel_interval
from evaluator.quality.neighbours import NEIGHBOURS, intra_set_distances, nearest_distances, neighbour_measures, radii
from lab.data.labelled_images import LabelledImages, spread_evenly
from lab.types import PixelImages

LARGEST_SAMPLE = 10_000
SMALLEST_SAMPLE = NEIGHBOURS + 1
"""Images that have enough neighbours among themselves."""
SEED = 0
"""Of all resampling: the same images get the same intervals."""
CELL_WITH_COST = (*CELL, "network_evaluations")
SHARES = ("precision", "recall", "coverage")


def sample_size(sizes: Iterable[int], held_out: int) -> int:
    """Return how many images every row uses: as many as the smallest cell that has enough for its neighbours.

    Args:
        sizes: the number of images of each cell.
        held_out: the number of held-out images, which decides if no cell has enough.
    """
    return min([size for size in sizes if size >= SMALLEST_SAMPLE], default=held_out)


class QualityMeasures:
    """The measures of quality against one set of real images.

    Args:
        second: the second evaluator's classifier, in evaluation mode.
        training: images that the generator was trained on.
        held_out: real images that no network was trained on.
        images: how many images every row uses.

    Raises:
        LabError: too few images for their nearest neighbours.
    """

    def __init__(self, second: nn.Module, training: LabelledImages, held_out: LabelledImages, images: int) -> None:
        self.second = second
        self.held_out = held_out
        self.images = min(images, len(held_out), LARGEST_SAMPLE)
        real = training.pixels[spread_evenly(LARGEST_SAMPLE, len(training))]
        self.real = features_in_batches(second, real)
        self.real_radii = radii(self.real)
        self.frechet = FrechetDistance.to(self.real.double().numpy())
        self.kernel = KernelDistance.to(self.real.double().numpy())

    def row(self, pixels: PixelImages, conditions: Tensor) -> dict[str, Any]:
        """Return every measure of images and their label sets, with intervals, as columns of a table.

        The second evaluator's accuracy is over all of the images, the rest over `images` of them, evenly spaced. Images
        that are too few for their neighbours have that accuracy alone.
        """
        accuracy = score(logits_in_batches(self.second, pixels), conditions).accuracy()
        if len(pixels) < SMALLEST_SAMPLE:
            return {"images": len(pixels)} | interval_columns("second_accuracy", accuracy)
        chosen = spread_evenly(self.images, len(pixels))
        pixels, conditions = pixels[chosen], conditions[chosen]
        features = features_in_batches(self.second, pixels)
        measures = neighbour_measures(self.real, features, self.real_radii)
        sets = [frozenset(map(str, row.nonzero().flatten().tolist())) for row in conditions]
        means = {
            "density": measures["density"],
            "intra_set_distance": intra_set_distances(features, sets),
            "nearest_training_distance": nearest_distances(features, self.real),
            "saturated_share": ((pixels == 0) | (pixels == 255)).float().mean(dim=(1, 2, 3)),
        }
        intervals = {
            "second_accuracy": accuracy,
            **{name: ratio_interval(measures[name].numpy(), np.ones(len(measures[name]))) for name in SHARES},
            **{name: bootstrap_mean(values.numpy(), SEED) for name, values in means.items() if len(values)},
            "frechet_distance": frechet_interval(self.frechet, features.double().numpy(), SEED),
            "kernel_distance": kernel_interval(self.kernel, features.double().numpy(), SEED),
        }
        row: dict[str, Any] = {"images": len(pixels)}
        for name, interval in intervals.items():
            row |= interval_columns(name, interval)
        return row

    def table(self, cells: Iterable[JudgedCell]) -> pd.DataFrame:
        """Return the rows of `quality.csv`: real held-out images first, then each cell."""
        rows = [{"of": "real held-out images"} | self.row(self.held_out.pixels, self.held_out.conditions)]
        for cell in cells:
            named = {column: cell.settings[column] for column in CELL_WITH_COST}
            measures = self.row(cell.pixels(), self.held_out.vocabulary.conditions(cell.label_sets))
            rows.append({"of": "generated images"} | named | measures)
        table = pd.DataFrame(rows)
        first = ["of", *CELL_WITH_COST]
        return table[[*first, *(column for column in table if column not in first)]]
