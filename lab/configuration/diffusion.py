"""Settings of the noise schedule and of the sampler."""

from dataclasses import dataclass
from typing import Literal

from lab.configuration.checks import require_range, require_types
from lab.errors import LabError


@dataclass(frozen=True)
class ScheduleConfig:
    """The noise schedule alpha_bar[t]."""

    kind: Literal["linear", "cosine", "cyclic_cosine", "corruption"] = "cosine"
    """linear betas (Ho 2020), cosine alpha_bar (Nichol & Dhariwal 2021), betas that swing with a period of 50, or the
    tutorials' corruption: (1 - amount) image + amount noise, the noise uniform, the amount from 0 to 1."""
    timesteps: int = 400
    """T, the number of noise levels the denoiser is trained on."""
    beta_start: float = 1e-4
    """First (or, when cyclic, lowest) beta. The cosine schedule does not use it."""
    beta_end: float = 0.02
    """Last (or, when cyclic, highest) beta. The cosine schedule does not use it."""
    zero_terminal: bool = False
    """Shift and stretch sqrt(alpha_bar) so that the last timestep is noise alone (Lin 2024)."""

    def __post_init__(self) -> None:
        require_types(self, "schedule")
        require_range("schedule.timesteps", self.timesteps, 2, 100_000)
        require_range("schedule.beta_start", self.beta_start, 1e-8, 0.999)
        require_range("schedule.beta_end", self.beta_end, self.beta_start, 0.999)


@dataclass(frozen=True)
class SamplerConfig:
    """How starting noise becomes an image."""

    kind: Literal[
        "ancestral", "ddim", "dpm_solver", "diffusers_ddpm", "diffusers_ddim", "diffusers_dpm_solver", "diffusers_unipc"
    ] = "dpm_solver"
    """ancestral DDPM with variance beta_t (Ho 2020), DDIM (Song 2021), or DPM-Solver++(2M) (Lu 2022); or a scheduler of
    diffusers (extra [diffusers])."""
    sampling_steps: int = 8
    """Steps from noise to image."""
    eta: float = 0.0
    """DDIM's share of fresh noise: 0 is deterministic, 1 is ancestral DDPM with the posterior variance."""
    clamp: bool = True
    """Clamp the predicted clean image to [-1, 1] at every step; diffusers' DPM-Solver and UniPC never do."""

    def __post_init__(self) -> None:
        require_types(self, "sampler")
        require_range("sampler.sampling_steps", self.sampling_steps, 1)
        require_range("sampler.eta", self.eta, 0, 1)
        if self.eta and self.kind != "ddim":
            raise LabError(f"--sampler.eta is {self.eta:g}, which only --sampler.kind ddim uses; found {self.kind}")
