"""Precision and threads by network size: the best choices for `auto` on a CPU, alone and beside busy programs.

    python -m benchmarks.precision_and_threads            # minutes; one row per network, precision and thread count
    python -m benchmarks.precision_and_threads --busy 2   # beside two programs that only loop

Each row runs in a separate process, because libraries choose their threads when they start. Set GOMP_SPINCOUNT or
OMP_WAIT_POLICY to measure the effect of spinning; `lab.machine.threads` has the lab's values.
"""

import argparse
import json
import subprocess
import sys
import time
from itertools import product
from statistics import median

import pandas as pd

SIZES: dict[str, tuple[tuple[int, int, int], int, dict[str, object]]] = {
    "8x8, n_feat 32 (digits)": ((1, 8, 8), 64, {"n_feat": 32}),
    "8x8, n_feat 64": ((1, 8, 8), 64, {"n_feat": 64}),
    "8x8, n_feat 128": ((1, 8, 8), 64, {"n_feat": 128}),
    "16x16, n_feat 32": ((1, 16, 16), 64, {"n_feat": 32}),
    "28x28, n_feat 32": ((1, 28, 28), 32, {"n_feat": 32}),
    "28x28, n_feat 128": ((1, 28, 28), 32, {"n_feat": 128}),
}
"""Image shape, batch size and settings of each network."""
ROUND_SECONDS = 0.5


def measured(name: str, precision: str, threads: int, rounds: int) -> dict[str, object]:
    """Return the milliseconds per image that one process needs for training and for sampling."""
    import torch

    from lab.configuration.diffusion import CosineScheduleConfig
    from lab.configuration.networks import ContextUnetConfig
    from lab.data.datasets import DIGITS
    from lab.machine.precision import InPrecision
    from lab.networks.registry import build_denoiser

    torch.set_num_threads(threads)
    shape, batch, settings = SIZES[name]
    config = ContextUnetConfig(**settings)  # type: ignore[arg-type]  # fields of several types
    network = build_denoiser(config, shape, DIGITS.names, CosineScheduleConfig(), 0)
    x_t, timesteps, conditions = (
        torch.randn(batch, *shape),
        torch.arange(batch),
        torch.eye(10)[torch.arange(batch) % 10],
    )
    optimizer, computed = torch.optim.AdamW(network.parameters()), InPrecision(network, precision)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        computed(x_t, timesteps, conditions).square().mean().backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()

    def sample() -> None:
        with torch.inference_mode():
            computed(x_t, timesteps, conditions)

    row: dict[str, object] = {"network": name, "precision": precision, "threads": threads}
    for step in (train, sample):
        seconds = []
        for _ in range(rounds + 1):
            started, count = time.perf_counter(), 0
            while time.perf_counter() - started < ROUND_SECONDS:
                step()
                count += 1
            seconds.append((time.perf_counter() - started) / count)
        row[f"{step.__name__}_ms_an_image"] = 1000 * median(seconds[1:]) / batch
    return row


def main() -> None:
    """Print the table, with the ratio of each row's time to the time of float32 on all threads."""
    import os

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=0, help="number of programs that each keep a processor busy")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--row", nargs=3)
    options = parser.parse_args()
    if options.row:
        name, precision, threads = options.row
        print(json.dumps(measured(name, precision, int(threads), options.rounds)))
        return
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    rows = []
    try:
        for name, precision, threads in product(SIZES, ("float32", "bfloat16"), (os.cpu_count() or 1, 1)):
            command = [sys.executable, "-m", "benchmarks.precision_and_threads", "--rounds", str(options.rounds)]
            command += ["--row", name, precision, str(threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout))
    finally:
        for process in busy:
            process.kill()
    table = pd.DataFrame(rows)
    for column in ("train_ms_an_image", "sample_ms_an_image"):
        first = table.groupby("network", sort=False)[column].transform("first")
        table[column.replace("ms_an_image", "ratio")] = (table[column].astype(float) / first.astype(float)).round(2)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
