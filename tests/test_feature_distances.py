"""Distances of distributions: against scipy and torchmetrics' formulas, and the answers that are known beforehand."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from evaluator.quality import feature_distances
from evaluator.quality.feature_distances import (
    FrechetDistance,
    KernelDistance,
    frechet_distance,
    frechet_interval,
    kernel_distance,
    kernel_interval,
)


def cloud(images: int, features: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(images, features))


def frechet_by_scipy(real: np.ndarray, generated: np.ndarray) -> float:
    of_real, of_generated = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    between = ((real.mean(axis=0) - generated.mean(axis=0)) ** 2).sum()
    return float(between + np.trace(of_real + of_generated - 2 * sqrtm(of_real @ of_generated).real))


def kernel_by_loops(real: np.ndarray, generated: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return (
        mean([kernel(a, b) for i, a in enumerate(real) for j, b in enumerate(real) if i != j])
        + mean([kernel(a, b) for i, a in enumerate(generated) for j, b in enumerate(generated) if i != j])
        - 2 * mean([kernel(a, b) for a in real for b in generated])
    )


@pytest.mark.parametrize(
    ("real", "generated"),
    [
        (cloud(100), cloud(80, seed=1) * 2 + 1),
        (cloud(200, 20) @ cloud(20, 20, seed=2), cloud(150, 20, seed=1)),
        (cloud(30, 3), cloud(9, 3, seed=1)),
    ],
    ids=["scaled and moved", "correlated", "few"],
)
def test_both_agree_with_independent_formulas(real: np.ndarray, generated: np.ndarray) -> None:
    assert frechet_distance(real, generated) == pytest.approx(frechet_by_scipy(real, generated), rel=1e-6)
    assert kernel_distance(real[:40], generated[:40]) == pytest.approx(
        kernel_by_loops(real[:40], generated[:40]), rel=1e-6, abs=1e-9
    )


def test_the_kernel_distance_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = cloud(50), cloud(31, seed=1) + 0.2
    whole = kernel_distance(real, generated)
    monkeypatch.setattr(feature_distances, "ROWS", 7)
    assert kernel_distance(real, generated) == pytest.approx(whole, rel=1e-9)


def test_a_resample_is_the_set_with_its_images_as_often_as_they_were_drawn() -> None:
    # Without the pairs of an image with its own copy, which are no two images.
    real, generated = cloud(30), cloud(4, seed=1)
    found = KernelDistance.to(real).of_resamples(generated, np.array([[2.0, 0.0, 1.0, 0.0]]))[0]
    assert found == pytest.approx(kernel_distance(real, generated[[0, 2]]) + shift(real, generated), rel=1e-9)


def shift(real: np.ndarray, generated: np.ndarray) -> float:
    """Return what weighing the first of two images twice adds to the part of the kernel distance that is between."""
    between = [float(np.mean([(a @ b / len(a) + 1) ** 3 for b in real])) for a in generated[[0, 2]]]
    return -2 * ((2 * between[0] + between[1]) / 3 - (between[0] + between[1]) / 2)


def test_degenerate_covariances() -> None:
    # Fewer images than features: scipy's root of a singular matrix is no reference, the closed form of these is.
    line = np.zeros((50, 30))
    line[:, 0] = cloud(50, 1)[:, 0]
    stretched = 3 * line
    spread = line[:, 0].std(ddof=1)
    moved = (2 * line[:, 0].mean()) ** 2
    assert frechet_distance(line, stretched) == pytest.approx((2 * spread) ** 2 + moved, rel=1e-6)
    repeated = np.full((20, 30), 2.0)
    assert frechet_distance(repeated, repeated) == 0
    assert frechet_distance(repeated, repeated + 1) == pytest.approx(30, rel=1e-9)


def test_normal_distributions_have_their_closed_form() -> None:
    # Diagonal covariances: sum of (difference of standard deviations)^2.
    generator = np.random.default_rng(0)
    white = generator.normal(size=(400, 3))
    white = (white - white.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    scales, shift = np.array([2.0, 0.5, 1.0]), np.array([1.0, -2.0, 0.0])
    assert frechet_distance(white, white * scales + shift) == pytest.approx(5 + 1 + 0.25, rel=1e-9)


def test_identical_sets_are_at_no_distance_and_disjoint_ones_far() -> None:
    points = cloud(60)
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-9)
    # The unbiased estimate of 0 is about 0, and below it where the pairs of an image with itself are left out.
    assert kernel_distance(points, points) < 0
    assert frechet_distance(points, points + 100) == pytest.approx(6 * 100**2, rel=1e-6)
    assert kernel_distance(points, points + 100) > 1e6


def test_intervals_hold_the_value_and_shrink_with_more_images() -> None:
    real = cloud(500)
    widths = []
    for images in (50, 450):
        generated = cloud(images, seed=1) + 0.3
        for interval in (
            frechet_interval(FrechetDistance.to(real), generated, 0),
            kernel_interval(KernelDistance.to(real), generated, 0),
        ):
            assert interval.low < interval.value < interval.high
            widths.append(interval.high - interval.low)
        assert frechet_interval(FrechetDistance.to(real), generated, 0) == frechet_interval(
            FrechetDistance.to(real), generated, 0
        )
    assert widths[2] < widths[0] / 2
    assert widths[3] < widths[1] / 2


def test_the_interval_is_not_moved_by_images_that_are_drawn_twice() -> None:
    # A resample of 40 images holds 25 different ones, and stands far above them; the interval must not.
    real, generated = cloud(500, 20), cloud(40, 20, seed=1)
    interval = frechet_interval(FrechetDistance.to(real), generated, 0)
    assert interval.low < interval.value < interval.high
