"""Nearest neighbours in a feature space: are generated images like real ones, and do they cover all real ones?

The ball of an image reaches to its k-th nearest neighbour in the same set. For real images R and generated images G:

    precision   the share of G inside the ball of at least one image of R
    density     the mean over G of the number of balls of R around an image, divided by k; the huge ball of an outlier
                adds less to it than to precision, and it may exceed 1
    recall      the share of R inside the ball of at least one image of G
    coverage    the share of R whose ball contains at least one image of G

Sources: Kynkaanniemi et al. 2019 (arXiv:1904.06991) for precision and recall, Naeem et al. 2020 (arXiv:2002.09797)
for density and coverage.

Distances are computed by a matrix product in float64, |a - b|^2 = |a|^2 + |b|^2 - 2 a.b. This loses precision for
almost identical images, so their distances are computed directly: an image is at distance 0 from itself.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from lab.errors import LabError

Features = Float[Tensor, "_ feature"]
PerImage = Float[Tensor, "_"]

NEIGHBOURS = 5
"""k; the sources recommend 3 to 5."""
ROWS = 500
"""Images whose distances to all others are in memory at a time."""
CLOSE = 1e-6
"""Squared distances below this share of |a|^2 + |b|^2 are computed directly."""
PAIRS = 10_000
"""Directly computed pairs in memory at a time."""
EDGE = 1 + 1e-8
"""A ball includes images up to this multiple of its radius, so that rounding excludes none on its edge."""


def distances(of: Features, to: Features) -> Iterator[Tensor]:
    """Yield Euclidean distances in blocks of up to ROWS rows, (rows, len(to)), in the order of `of`."""
    # Centring keeps the norms small and so the rounding errors of the matrix product.
    middle = to.double().mean(dim=0)
    of, to = of.double() - middle, to.double() - middle
    of_to = to.square().sum(dim=1)
    for rows in torch.split(of, ROWS):
        sizes = rows.square().sum(dim=1, keepdim=True) + of_to
        squares = torch.addmm(sizes, rows, to.mT, alpha=-2)
        block = squares.clamp(min=0).sqrt()
        for pairs in torch.split((squares < CLOSE * sizes).nonzero(), PAIRS):
            i, j = pairs.unbind(dim=1)
            block[i, j] = torch.linalg.vector_norm(rows[i] - to[j], dim=1)
        yield block


def radii(features: Features, neighbours: int = NEIGHBOURS) -> PerImage:
    """Return the distance from each image to its k-th nearest neighbour.

    Raises:
        LabError: there are k images or fewer.
    """
    if len(features) <= neighbours:
        raise LabError(
            f"{len(features)} images are too few for {neighbours} neighbours each; at least {neighbours + 1} are "
            f"needed: increase --sweep.seeds or use a larger label-set file"
        )
    # The nearest image is the image itself.
    return torch.cat([rows.kthvalue(neighbours + 1, dim=1).values for rows in distances(features, features)])


def balls_around(images: Features, centres: Features, reach: PerImage) -> tuple[PerImage, PerImage]:
    """Return the number of balls around each image and the number of images inside each ball; edges count as inside.

    Args:
        images: features of the images, (N, F).
        centres: features of the balls' centres, (M, F).
        reach: radii of the balls, (M,).
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
    """Return precision, density, recall and coverage as one value per image; each measure is the mean of its values.

    Args:
        real: features of the real images, (M, F).
        generated: features of the generated images, (N, F).
        real_radii: `radii(real, neighbours)`, computed once for all comparisons with the same real images.
        neighbours: k.

    Returns:
        precision and density of each generated image, (N,); recall and coverage of each real image, (M,).

    Raises:
        LabError: there are k generated images or fewer.
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
    """Return the distance from each image to the nearest in `to`.

    Small distances to training images are a sign of memorisation.
    """
    return torch.cat([rows.amin(dim=1) for rows in distances(images, to)])


def intra_set_distances(features: Features, sets: list[frozenset[str]]) -> PerImage:
    """Return each image's mean distance to the other images of its label set; images alone in their set have none."""
    of_set: dict[frozenset[str], list[int]] = {}
    for place, label_set in enumerate(sets):
        of_set.setdefault(label_set, []).append(place)
    means = [
        torch.cat([rows.sum(dim=1) for rows in distances(features[places], features[places])]) / (len(places) - 1)
        for places in of_set.values()
        if len(places) > 1
    ]
    return torch.cat(means) if means else torch.zeros(0)
