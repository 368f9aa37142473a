"""Nearest neighbours in a feature space: is what is generated like the real, and is all that is real generated?

Around each image lies a ball that reaches to its k-th nearest neighbour among its own kind. Of real images R and
generated images G,

    precision   the share of G inside the ball of any of R
    density     over G, how many balls of R an image is inside of, over k; unlike precision, one outlier's huge ball
                adds little, and the value may exceed 1
    recall      the share of R inside the ball of any of G
    coverage    the share of R whose own ball holds any of G

Sources: Kynkaanniemi et al. 2019 (arXiv:1904.06991) for precision and recall, Naeem et al. 2020 (arXiv:2002.09797)
for density and coverage. Distances are taken in full, not by way of a matrix product: an image is at distance 0 from
itself.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from lab.errors import LabError

Features = Float[Tensor, "_ feature"]
PerImage = Float[Tensor, "_"]

NEIGHBOURS = 5
"""k, as in both sources' recommendations of 3 to 5."""
ROWS = 500
"""Images whose distances to all others are held at a time."""


def distances(of: Features, to: Features) -> Iterator[Tensor]:
    """Yield Euclidean distances, (up to ROWS, len(to)) at a time, the rows in the order of `of`."""
    for rows in torch.split(of, ROWS):
        yield torch.cdist(rows, to, compute_mode="donot_use_mm_for_euclid_dist")


def radii(features: Features, neighbours: int = NEIGHBOURS) -> PerImage:
    """Return the distance of each image to its k-th nearest neighbour among the others.

    Raises:
        LabError: there are not k others.
    """
    if len(features) <= neighbours:
        raise LabError(
            f"{len(features)} images have no {neighbours} neighbours each; give at least {neighbours + 1}, "
            f"with more --sweep.seeds or a larger label-set file"
        )
    # The nearest of all is the image itself.
    return torch.cat([rows.kthvalue(neighbours + 1, dim=1).values for rows in distances(features, features)])


def balls_around(images: Features, centres: Features, reach: PerImage) -> tuple[PerImage, PerImage]:
    """Return how many balls each image is inside of, and how many images are inside each ball; edges count as inside.

    Args:
        images: (N, F).
        centres: (M, F).
        reach: (M,), the balls' radii.
    """
    per_image, per_ball = [], torch.zeros(len(centres))
    for rows in distances(images, centres):
        inside = rows <= reach
        per_image.append(inside.sum(dim=1).float())
        per_ball += inside.sum(dim=0).float()
    return torch.cat(per_image), per_ball


def neighbour_measures(
    real: Features, generated: Features, real_radii: PerImage, neighbours: int = NEIGHBOURS
) -> dict[str, PerImage]:
    """Return precision, density, recall and coverage as a value an image, whose mean each of them is.

    Args:
        real: (M, F).
        generated: (N, F).
        real_radii: `radii(real, neighbours)`; the same for all that is compared with these real images.
        neighbours: k.

    Returns:
        precision and density of each generated image, (N,); recall and coverage of each real one, (M,).

    Raises:
        LabError: there are not more than k generated images.
    """
    balls, held = balls_around(generated, real, real_radii)
    recalled, _ = balls_around(real, generated, radii(generated, neighbours))
    return {
        "precision": (balls > 0).float(),
        "density": balls / neighbours,
        "recall": (recalled > 0).float(),
        "coverage": (held > 0).float(),
    }


def nearest_distances(images: Features, to: Features) -> PerImage:
    """Return the distance of each image to the nearest of others: to training images, it tells of memorisation."""
    return torch.cat([rows.amin(dim=1) for rows in distances(images, to)])


def intra_set_distances(features: Features, sets: list[frozenset[str]]) -> PerImage:
    """Return, for each image that is not alone with its label set, its mean distance to the others of that set."""
    of_set: dict[frozenset[str], list[int]] = {}
    for place, label_set in enumerate(sets):
        of_set.setdefault(label_set, []).append(place)
    means = [
        torch.cat([rows.sum(dim=1) for rows in distances(features[places], features[places])]) / (len(places) - 1)
        for places in of_set.values()
        if len(places) > 1
    ]
    return torch.cat(means) if means else torch.zeros(0)
