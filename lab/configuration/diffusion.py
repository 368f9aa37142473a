"""Settings of the noise schedule and the sampler, one class per kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from lab.configuration.checks import require_range, require_types
from lab.errors import LabError


@runtime_checkable
class ScheduleConfig(Protocol):
    """Settings of a noise schedule, of any kind."""

    @property
    def kind(self) -> str:
        """Its name."""
        ...

    @property
    def timesteps(self) -> int:
        """T, the number of noise levels that the denoiser is trained on."""
        ...


@runtime_checkable
class SamplerConfig(Protocol):
    """Settings of a sampler, of any kind."""

    @property
    def kind(self) -> str:
        """Its name."""
        ...

    @property
    def sampling_steps(self) -> int:
        """Steps from noise to image."""
        ...


def _require_timesteps(timesteps: int) -> None:
    require_range("schedule.timesteps", timesteps, 2, 100_000)


def _require_betas(start: float, end: float) -> None:
    require_range("schedule.beta_start", start, 1e-8, 0.999)
    require_range("schedule.beta_end", end, start, 0.999)


@dataclass(frozen=True)
class LinearScheduleConfig:
    """Betas that rise linearly (Ho 2020)."""

    kind: Literal["linear"] = "linear"
    """linear, cosine, cyclic_cosine or corruption; each has its own settings."""
    timesteps: int = 400
    """T, the number of noise levels that the denoiser is trained on."""
    beta_start: float = 1e-4
    """First beta."""
    beta_end: float = 0.02
    """Last beta."""
    extra_beta: bool = False
    """T + 1 betas, t = 0 ... T, as in the coursework: timestep 0 is not trained, and sampling ends at alpha_bar_0 =
    1 - beta_0 instead of at the clean image."""
    zero_terminal: bool = False
    """Shift and stretch sqrt(alpha_bar) so that the last timestep is noise alone (Lin 2024)."""

    def __post_init__(self) -> None:
        require_types(self, "schedule")
        _require_timesteps(self.timesteps)
        _require_betas(self.beta_start, self.beta_end)


@dataclass(frozen=True)
class CosineScheduleConfig:
    """alpha_bar that follows a squared cosine (Nichol & Dhariwal 2021)."""

    kind: Literal["cosine"] = "cosine"
    """linear, cosine, cyclic_cosine or corruption; each has its own settings."""
    timesteps: int = 400
    """T, the number of noise levels that the denoiser is trained on."""
    zero_terminal: bool = False
    """Shift and stretch sqrt(alpha_bar) so that the last timestep is noise alone (Lin 2024)."""

    def __post_init__(self) -> None:
        require_types(self, "schedule")
        _require_timesteps(self.timesteps)


@dataclass(frozen=True)
class CyclicCosineScheduleConfig:
    """Betas that oscillate between two values with a period of 50 timesteps, as in the coursework."""

    kind: Literal["cyclic_cosine"] = "cyclic_cosine"
    """linear, cosine, cyclic_cosine or corruption; each has its own settings."""
    timesteps: int = 400
    """T, the number of noise levels that the denoiser is trained on."""
    beta_start: float = 1e-4
    """Lowest beta."""
    beta_end: float = 0.02
    """Highest beta, the first one."""
    extra_beta: bool = False
    """T + 1 betas, t = 0 ... T, as in the coursework: timestep 0 is not trained, and sampling ends at alpha_bar_0 =
    1 - beta_0 instead of at the clean image."""
    zero_terminal: bool = False
    """Shift and stretch sqrt(alpha_bar) so that the last timestep is noise alone (Lin 2024)."""

    def __post_init__(self) -> None:
        require_types(self, "schedule")
        _require_timesteps(self.timesteps)
        _require_betas(self.beta_start, self.beta_end)


def require_current_cyclic_cosine(owner: Path, stored: object) -> None:
    """Raise LabError if stored settings are of the earlier cyclic cosine, which began at beta_start.

    Args:
        owner: the file that holds the settings.
        stored: the settings of its noise schedule, as `as_primitives` returns them.
    """
    if isinstance(stored, Mapping) and stored.get("kind") == "cyclic_cosine" and "extra_beta" not in stored:
        raise LabError(
            f"{owner} was made with an earlier --schedule.kind cyclic_cosine, which began at its lowest beta; train it "
            f"again under another --name"
        )


@dataclass(frozen=True)
class CorruptionScheduleConfig:
    """The tutorials' corruption: (1 - amount) image + amount noise, with uniform noise and an amount from 0 to 1."""

    kind: Literal["corruption"] = "corruption"
    """linear, cosine, cyclic_cosine or corruption; each has its own settings."""
    timesteps: int = 400
    """T, the number of noise levels that the denoiser is trained on."""
    extra_amount: bool = False
    """T + 1 amounts: sampling ends at the smallest, 1 / (T + 2), instead of at the clean image. In T steps, step i then
    mixes in 1 / (T - i + 1) of the prediction, i = 0, 1, ..."""

    def __post_init__(self) -> None:
        require_types(self, "schedule")
        _require_timesteps(self.timesteps)


@dataclass(frozen=True, kw_only=True)
class BetasScheduleConfig:
    """A list of betas, as folders of diffusers may hold it; the command line does not offer it.

    Args:
        betas: beta_t for t = 0 ... T - 1, each between 0 and 1.
        zero_terminal: shift and stretch sqrt(alpha_bar) so that the last timestep is noise alone (Lin 2024).
    """

    kind: Literal["betas"] = "betas"
    betas: tuple[float, ...]
    zero_terminal: bool = False

    def __post_init__(self) -> None:
        require_types(self, "schedule")
        _require_timesteps(self.timesteps)
        for t, beta in enumerate(self.betas):
            if not 0 < beta < 1:
                raise LabError(f"schedule.betas: beta {t} is {beta}; it must be between 0 and 1")

    @property
    def timesteps(self) -> int:
        """T, the number of noise levels that the denoiser is trained on."""
        return len(self.betas)


ScheduleChoice = LinearScheduleConfig | CosineScheduleConfig | CyclicCosineScheduleConfig | CorruptionScheduleConfig
"""The kinds that the command line offers."""


@dataclass(frozen=True)
class AncestralConfig:
    """Ancestral DDPM with variance beta_t (Ho 2020)."""

    kind: Literal["ancestral"] = "ancestral"
    """ancestral, ddim, dpm_solver, diffusers_ddpm, diffusers_ddim, diffusers_dpm_solver or diffusers_unipc."""
    sampling_steps: int = 8
    """Steps from noise to image."""
    clamp: bool = True
    """Clamp the predicted clean image to [-1, 1] at every step."""

    def __post_init__(self) -> None:
        _require_sampler(self)


@dataclass(frozen=True)
class DDIMConfig:
    """DDIM (Song 2021)."""

    kind: Literal["ddim"] = "ddim"
    """ancestral, ddim, dpm_solver, diffusers_ddpm, diffusers_ddim, diffusers_dpm_solver or diffusers_unipc."""
    sampling_steps: int = 8
    """Steps from noise to image."""
    eta: float = 0.0
    """Amount of fresh noise: 0 is deterministic, 1 is ancestral DDPM with the posterior variance."""
    clamp: bool = True
    """Clamp the predicted clean image to [-1, 1] at every step."""

    def __post_init__(self) -> None:
        _require_sampler(self)
        require_range("sampler.eta", self.eta, 0, 1)


@dataclass(frozen=True)
class DPMSolverConfig:
    """DPM-Solver++(2M) (Lu 2022)."""

    kind: Literal["dpm_solver"] = "dpm_solver"
    """ancestral, ddim, dpm_solver, diffusers_ddpm, diffusers_ddim, diffusers_dpm_solver or diffusers_unipc."""
    sampling_steps: int = 8
    """Steps from noise to image."""
    clamp: bool = True
    """Clamp the predicted clean image to [-1, 1] at every step."""

    def __post_init__(self) -> None:
        _require_sampler(self)


@dataclass(frozen=True)
class DiffusersDDPMConfig:
    """diffusers' DDPMScheduler (extra [diffusers])."""

    kind: Literal["diffusers_ddpm"] = "diffusers_ddpm"
    """ancestral, ddim, dpm_solver, diffusers_ddpm, diffusers_ddim, diffusers_dpm_solver or diffusers_unipc."""
    sampling_steps: int = 8
    """Steps from noise to image."""
    clamp: bool = True
    """Clamp the predicted clean image to [-1, 1] at every step."""

    def __post_init__(self) -> None:
        _require_sampler(self)


@dataclass(frozen=True)
class DiffusersDDIMConfig:
    """diffusers' DDIMScheduler (extra [diffusers])."""

    kind: Literal["diffusers_ddim"] = "diffusers_ddim"
    """ancestral, ddim, dpm_solver, diffusers_ddpm, diffusers_ddim, diffusers_dpm_solver or diffusers_unipc."""
    sampling_steps: int = 8
    """Steps from noise to image."""
    clamp: bool = True
    """Clamp the predicted clean image to [-1, 1] at every step."""

    def __post_init__(self) -> None:
        _require_sampler(self)


@dataclass(frozen=True)
class DiffusersDPMSolverConfig:
    """diffusers' DPMSolverMultistepScheduler, which never clamps (extra [diffusers])."""

    kind: Literal["diffusers_dpm_solver"] = "diffusers_dpm_solver"
    """ancestral, ddim, dpm_solver, diffusers_ddpm, diffusers_ddim, diffusers_dpm_solver or diffusers_unipc."""
    sampling_steps: int = 8
    """Steps from noise to image."""

    def __post_init__(self) -> None:
        _require_sampler(self)


@dataclass(frozen=True)
class DiffusersUniPCConfig:
    """diffusers' UniPCMultistepScheduler, which never clamps (extra [diffusers])."""

    kind: Literal["diffusers_unipc"] = "diffusers_unipc"
    """ancestral, ddim, dpm_solver, diffusers_ddpm, diffusers_ddim, diffusers_dpm_solver or diffusers_unipc."""
    sampling_steps: int = 8
    """Steps from noise to image."""

    def __post_init__(self) -> None:
        _require_sampler(self)


SamplerChoice = (
    AncestralConfig
    | DDIMConfig
    | DPMSolverConfig
    | DiffusersDDPMConfig
    | DiffusersDDIMConfig
    | DiffusersDPMSolverConfig
    | DiffusersUniPCConfig
)
"""The kinds that the command line offers."""


def _require_sampler(config: SamplerConfig) -> None:
    require_types(config, "sampler")
    require_range("sampler.sampling_steps", config.sampling_steps, 1)
