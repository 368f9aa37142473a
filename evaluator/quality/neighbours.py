"""Nearest neighbours in a feature space: is what is generated like the real, and is all that is real generated?

Around each image lies a ball that reaches to its k-th nearest neighbour among its own kind. Of real images R and
generated images G,

    precision   the share of G inside the ball of any of R
    density     over G, how many balls of R an image is inside of, over k; unlike precision, one outlier's huge ball
                adds little, and the value may exceed 1
    recall      the share of R inside the ball of any of G
    coverage    the share of R whose own ball holds any of G

Sources: Kynkaanniemi et al. 2019 (arXiv:1904.06991) for precision and recall, Naeem et al. 2020 (arXiv:2002.09797)
for density and coverage.

Distances come of a matrix product in float64, |a - b|^2 = |a|^2 + |b|^2 - 2 a.b. Where that leaves few digits, between
images that are all but the same, they are taken in full: an image is at distance 0 from itself.
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
CLOSE = 1e-6
"""Of |a|^2 + |b|^2: below this, a squared distance is taken in full."""
PAIRS = 10_000
"""Such pairs that are held at a time."""
EDGE = 1 + 1e-8
"""An image is inside a ball up to this share of its radius: rounding must not move it over the edge."""


def distances(of: Features, to: Features) -> Iterator[Tensor]:
    """Yield Euclidean distances, (up to ROWS, len(to)) at a time, the rows in the order of `of`."""
    # From their common middle, so that little is taken from little.
    middle = to.double().mean(dim=0)
    of, to = of.double() - middle, to.double() - middle
    of_to = to.square().sum(dim=1)
    for rows in torch.split(of, ROWS):
        sizes = rows.square().sum(dim=1, keepdim=True) + of_to
        squares = torch.addmm(sizes, rows, to.mT, alpha=-2)
        found = squares.clamp(min=0).sqrt()
        for pairs in torch.split((squares < CLOSE * sizes).nonzero(), PAIRS):
            i, j = pairs.unbind(dim=1)
            found[i, j] = torch.linalg.vector_norm(rows[i] - to[j], dim=1)
        yield found


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
        inside = rows <= reach * EDGE
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
