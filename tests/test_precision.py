"""Precision: what is chosen where, and that bfloat16 makes the pictures float32 makes."""

import os
import shutil
import subprocess
import sys
from typing import Any

import pytest
import torch

from experiments.presets import PRESETS
from lab.configuration.diffusion import CosineScheduleConfig, DPMSolverConfig
from lab.configuration.networks import ContextUnetConfig
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import noise_schedule
from lab.errors import LabError
from lab.machine.precision import WIDE_ENOUGH, InPrecision, as_compiled, chosen_precision
from lab.machine.threads import SPINS
from lab.networks.registry import build_denoiser
from tests.classes import some_classes
from tests.command import PROJECT

CPU = torch.device("cpu")


UNITS: list[dict[str, Any]] = [{"amx_bf16": True}, {"avx512_bf16": True, "amx_bf16": False}]


@pytest.mark.parametrize("units", [{}, *UNITS])
@pytest.mark.parametrize("width", [8, WIDE_ENOUGH - 1, WIDE_ENOUGH, 512])
def test_a_cpu_computes_wide_networks_in_its_units(
    units: dict[str, Any], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert chosen_precision("auto", CPU, width) == ("bfloat16" if units and width >= WIDE_ENOUGH else "float32")
    assert chosen_precision("float32", CPU, width) == "float32"
    assert chosen_precision("bfloat16", CPU, width) == "bfloat16"


def test_the_digits_are_computed_in_float32_and_the_scenes_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: UNITS[0])
    chosen = {name: chosen_precision("auto", CPU, preset.denoiser.width) for name, (_, preset) in PRESETS.items()}
    assert chosen["digits"] == chosen["mnist5k"] == "float32"
    assert chosen["iclevr-small"] == chosen["iclevr"] == chosen["iclevr-coursework"] == "bfloat16"


def test_no_device_is_given_what_it_cannot_do() -> None:
    assert chosen_precision("auto", torch.device("mps"), 512) == "float32"
    with pytest.raises(LabError, match="--precision is bfloat16, but mps supports only float32 here"):
        chosen_precision("bfloat16", torch.device("mps"), 512)


def spins(environment: dict[str, str]) -> str:
    """Return what a process with these variables, and no others of OpenMP's, has OpenMP spin."""
    script = "from lab.machine.threads import bound_spinning; bound_spinning()\n"
    script += "import os; print(os.environ.get('GOMP_SPINCOUNT'))"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True, cwd=PROJECT)
    return done.stdout.strip()


def test_threads_spin_for_a_while_unless_the_user_says_otherwise() -> None:
    assert spins({}) == SPINS
    assert spins({"GOMP_SPINCOUNT": "7"}) == "7"
    assert spins({"OMP_WAIT_POLICY": "ACTIVE"}) == "None"


def test_bfloat16_makes_the_same_pictures() -> None:
    config = ContextUnetConfig(n_feat=16, conditioning="blocks", bottleneck="map", attention="objects", prediction="v")
    network = build_denoiser(config, (3, 16, 16), some_classes(4), CosineScheduleConfig(), 0).eval()
    with torch.no_grad():
        # Fresh blocks begin at zero and would hide everything between.
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    conditions = torch.eye(4)

    def pictures(precision: str) -> torch.Tensor:
        noise = NoiseSource([(0, image) for image in range(4)], (3, 16, 16))
        predictor = InPrecision(network, precision)
        return sample(predictor, noise_schedule(CosineScheduleConfig()), DPMSolverConfig(), conditions, noise)

    exact, short = pictures("float32"), pictures("bfloat16")
    assert short.dtype == torch.float32
    assert not torch.equal(exact, short)
    # Three digits over eight steps: well below the difference of two pictures.
    assert float((exact - short).abs().mean()) < 0.05 * float((exact - exact.roll(1, 0)).abs().mean())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with a C++ compiler on a CPU")
def test_a_compiled_network_predicts_the_same() -> None:
    network = build_denoiser(ContextUnetConfig(n_feat=8), (1, 8, 8), some_classes(4), CosineScheduleConfig(), 0).eval()
    x_t = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    inputs = x_t, torch.tensor([1, 50, 300]), torch.eye(4)[:3]
    with torch.no_grad():
        torch.testing.assert_close(as_compiled(network)(*inputs), network(*inputs), atol=1e-5, rtol=1e-4)
