"""Nearest neighbours: against a brute force written plainly, and the answers that are known beforehand."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from evaluator.quality import neighbours
from evaluator.quality.neighbours import intra_set_distances, nearest_distances, neighbour_measures, radii
from lab.errors import LabError


def cloud(images: int, features: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(images, features, generator=torch.Generator().manual_seed(seed))


def by_brute_force(real: np.ndarray, generated: np.ndarray, k: int) -> dict[str, list[float]]:
    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(((a - b) ** 2).sum()))

    def reach(points: np.ndarray) -> list[float]:
        return [sorted(distance(a, b) for j, b in enumerate(points) if j != i)[k - 1] for i, a in enumerate(points)]

    of_real, of_generated = reach(real), reach(generated)
    inside = [[distance(g, r) <= of_real[i] for i, r in enumerate(real)] for g in generated]
    return {
        "precision": [float(any(row)) for row in inside],
        "density": [sum(row) / k for row in inside],
        "recall": [float(any(distance(r, g) <= of_generated[j] for j, g in enumerate(generated))) for r in real],
        "coverage": [float(any(row[i] for row in inside)) for i in range(len(real))],
    }


CLOUDS = {
    "random": (cloud(40), cloud(30, seed=1) + 0.5),
    "one repeated image": (cloud(40), cloud(1, seed=1).repeat(30, 1)),
    "all real images one image": (cloud(1).repeat(20, 1), cloud(30, seed=1)),
    "on a grid, with ties": (
        torch.tensor([[float(i), float(j)] for i in range(6) for j in range(6)]),
        torch.tensor([[i / 2, j / 2] for i in range(6) for j in range(6)]),
    ),
    "far from 0": (cloud(40) + 1024, cloud(30, seed=1) + 1024),
}


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("rows", [7, 500])
def test_measures_agree_with_brute_force(name: str, k: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "ROWS", rows)
    real, generated = (points.double() for points in CLOUDS[name])
    found = neighbour_measures(real, generated, radii(real, k), k)
    for measure, expected in by_brute_force(real.numpy(), generated.numpy(), k).items():
        assert found[measure].tolist() == pytest.approx(expected, abs=1e-6), measure


def test_radii_and_nearest_distances_agree_with_scikit_learn() -> None:
    points, others = cloud(300, 20).double(), cloud(200, 20, seed=1).double()
    reference = NearestNeighbors(n_neighbors=6, algorithm="ball_tree").fit(points.numpy())
    np.testing.assert_allclose(radii(points, 5).numpy(), reference.kneighbors(points.numpy())[0][:, 5], atol=1e-6)
    np.testing.assert_allclose(
        nearest_distances(others, points).numpy(), reference.kneighbors(others.numpy())[0][:, 0], atol=1e-6
    )


def means(real: torch.Tensor, generated: torch.Tensor) -> dict[str, float]:
    measures = neighbour_measures(real, generated, radii(real))
    return {name: float(values.mean()) for name, values in measures.items()}


def test_identical_sets_reach_everything() -> None:
    points = cloud(50)
    found = means(points, points)
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)
    # Each image is in its own ball and, on average, in those of k others.
    assert found["density"] == pytest.approx(6 / 5)


def test_disjoint_sets_reach_nothing() -> None:
    assert set(means(cloud(50), cloud(50, seed=1) + 100).values()) == {0.0}


def test_one_good_image_repeated_is_precise_and_covers_little() -> None:
    real = cloud(200)
    found = means(real, real[:1].repeat(200, 1))
    assert found["precision"] == 1
    assert found["coverage"] < 0.1
    assert found["recall"] == pytest.approx(1 / 200)


def test_as_many_images_as_neighbours_are_too_few() -> None:
    assert len(radii(cloud(6), 5)) == 6
    with pytest.raises(LabError, match="5 images are too few for 5 neighbours each; at least 6 are needed"):
        radii(cloud(5), 5)
    with pytest.raises(LabError, match="at least 6 are needed"):
        neighbour_measures(cloud(10), cloud(3), radii(cloud(10)))


def test_distances_within_label_sets() -> None:
    points = torch.tensor([[0.0], [3.0], [4.0], [10.0], [50.0]])
    sets = [frozenset("a"), frozenset("a"), frozenset("a"), frozenset("b"), frozenset("c")]
    assert sorted(intra_set_distances(points, sets).tolist()) == [2.0, 2.5, 3.5]
    assert len(intra_set_distances(points[3:], sets[3:])) == 0
