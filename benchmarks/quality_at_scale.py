"""Time and memory of the quality measures for 10,000 generated and 10,000 real images with 512 features.

.venv/bin/python benchmarks/quality_at_scale.py [IMAGES] [FEATURES]
"""

import resource
import sys
import time
from collections.abc import Callable

import torch

from evaluator.quality.feature_distances import FrechetDistance, KernelDistance, frechet_interval, kernel_interval
from evaluator.quality.neighbours import nearest_distances, neighbour_measures, radii


def main(images: int = 10_000, features: int = 512) -> None:
    """Print the seconds of each measure, their sum, and the peak memory of the process."""
    generator = torch.Generator().manual_seed(0)
    real, generated = (torch.randn(images, features, generator=generator) for _ in range(2))
    of_real, of_generated = real.double().numpy(), generated.double().numpy()
    measures: dict[str, Callable[[], object]] = {
        "precision, recall, density, coverage": lambda: neighbour_measures(real, generated, radii(real)),
        "nearest training image": lambda: nearest_distances(generated, real),
        "Frechet distance with interval": lambda: frechet_interval(FrechetDistance.to(of_real), of_generated, 0),
        "kernel distance with interval": lambda: kernel_interval(KernelDistance.to(of_real), of_generated, 0),
    }
    began = time.perf_counter()
    for name, measure in measures.items():
        started = time.perf_counter()
        measure()
        print(f"{name}: {time.perf_counter() - started:.1f} s")
    print(f"together: {time.perf_counter() - began:.1f} s")
    # ru_maxrss is in kibibytes on Linux.
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
