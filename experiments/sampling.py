"""The command `sample`: images of a checkpoint or pipeline as PNG files; importing this imports no torch."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from experiments.weaker import weaker_checkpoint
from lab.configuration.checks import require_range
from lab.configuration.diffusion import DPMSolverConfig, SamplerChoice
from lab.configuration.guidance import GuidanceConfig
from lab.errors import LabError
from lab.text import printable

if TYPE_CHECKING:
    import torch

    from lab.data.labels import LabelSet
    from lab.training.checkpoints import Checkpoint
    from lab.types import ImageClassifier, PixelImage, PixelImages, PixelMoments

GRID_COLUMNS = 8
GRID_GAP = 2
"""Pixels between the images of a grid, and around them."""


@dataclass(frozen=True)
class Sampling:
    """Which images are sampled from which checkpoint, and where they are written."""

    out: Path
    """The folder of the pictures, new or empty: 0.png, 1.png, ... and grid.png."""
    checkpoint: Path | None = None
    """The checkpoint, like checkpoints/digits/epoch0075.pt."""
    pipeline: Path | None = None
    """A folder of diffusers with scheduler/ and unet/, such as export-pipeline writes, instead of a checkpoint. Its
    classes, if it has any, are named by their numbers: "0", "1", ..."""
    label_sets: Path | None = None
    """A label-set file, like test.json: one image for each of its label sets, in its order."""
    ask: tuple[str, ...] = ()
    """Label sets instead of a file, one image each. Commas separate the classes of a set: "7", or "red cube, blue
    sphere". They are also written to OUT/ask.json, in the form of a label-set file."""
    images: int = 0
    """A number of unconditional images, instead of label sets."""
    guidance_weight: float = 0.0
    """w in eps = (1 + w) eps_conditional - w eps_unconditional: -1 unconditional, 0 conditional, above 0 guided."""
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    weak_checkpoint: Path | None = None
    """The weaker checkpoint of --guidance.method auto, such as an earlier one of the same training."""
    guide: Path | None = None
    """The classifier of --guidance.method classifier or dynamic, like checkpoints/digits/guide.pt."""
    sampler: SamplerChoice = field(default_factory=DPMSolverConfig)
    seed: int = 0
    """Decides the starting noise. The images of seed s are those that the sweep samples for its seed s."""
    strip: int = 0
    """Moments of the denoising to show in strip.png, a row for each image; 0 writes no strip.png."""
    batch_size: int = 0
    """Images sampled together; 0 for as many as fit into memory."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1, mps, ..."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The arithmetic of the network: bfloat16 or float32; auto takes the faster one."""

    def __post_init__(self) -> None:
        require_range("images", self.images, 0, 100_000)
        require_weight_and_seed(self.guidance_weight, self.seed)
        require_range("batch_size", self.batch_size, 0)
        if self.strip:
            require_range("strip", self.strip, 2, self.sampler.sampling_steps + 1)
        if len(self.guidance.method) > 1:
            raise LabError(f"--guidance.method is {' '.join(self.guidance.method)}; sample takes one method")

    @property
    def source(self) -> Path:
        """The checkpoint or the pipeline."""
        path = self.pipeline if self.checkpoint is None else self.checkpoint
        assert path is not None  # `require_one_source` is called first
        return path

    def require_one_source(self) -> None:
        """Raise LabError unless one option says what to sample from, one which images, and the weight goes with it."""
        if (self.checkpoint is None) == (self.pipeline is None):
            count = "neither" if self.checkpoint is None else "both"
            raise LabError(f"exactly one of --checkpoint, --pipeline is needed; given: {count}")
        if self.pipeline is not None and self.weak_checkpoint is not None:
            raise LabError("--weak-checkpoint is for --checkpoint, and --pipeline is given; remove one of them")
        choices = {"--label-sets": self.label_sets is not None, "--ask": bool(self.ask), "--images": bool(self.images)}
        given = [option for option, is_given in choices.items() if is_given]
        if len(given) != 1:
            raise LabError(f"exactly one of {', '.join(choices)} is needed; given: {', '.join(given) or 'none'}")
        if self.images and self.guidance_weight not in (-1, 0) and self.weak_checkpoint is None:
            raise LabError(
                f"--guidance-weight is {self.guidance_weight:g}, but the images of --images have no condition to be "
                f"guided to; remove it, or give --label-sets or --ask"
            )


def require_weight_and_seed(guidance_weight: float, seed: int) -> None:
    """Raise LabError unless w and the seed are in their ranges."""
    require_range("guidance_weight", guidance_weight, -1, 100)
    require_range("seed", seed, 0, 1_000_000)


def sample_pictures(sampling: Sampling) -> None:
    """Sample the images, write their folder, whole or not at all, and print what is in it."""
    from evaluator.reporting.picture_folders import require_drawable
    from lab.data.labelled_images import spread_evenly
    from lab.diffusion.schedules import noise_schedule
    from lab.guidance.method import guided_by
    from lab.guidance.methods import named_method
    from lab.library import sample_moments
    from lab.machine.computation import chosen_computation
    from lab.machine.files import require_new_folder, whole_folder
    from lab.pipelines import import_pipeline
    from lab.sweep.cells import noise_seeds_of
    from lab.sweep.fit import guidance_problems, require_fit, require_student_fit
    from lab.training.checkpoints import read_checkpoint

    sampling.require_one_source()
    named = named_method(sampling.guidance.method[0])
    if named.method.facts.needs_weaker != (sampling.weak_checkpoint is not None):
        raise LabError("--guidance.method auto and --weak-checkpoint belong together; give both or neither")
    guide_needed = guided_by(named.method)
    if guide_needed == "judge":
        raise LabError(
            f"--guidance.method {named.name} has by=judge, and sample has no judge; use --guide and by=guide"
        )
    if bool(guide_needed) != (sampling.guide is not None):
        method = named.name if guide_needed else "classifier or dynamic"
        raise LabError(f"--guidance.method {method} and --guide belong together; give both or neither")
    checkpoint = (read_checkpoint if sampling.pipeline is None else import_pipeline)(sampling.source)
    channels, height, width = checkpoint.image_shape
    require_drawable(channels)
    name, label_sets = _label_sets(sampling, checkpoint)
    schedule, vocabulary = noise_schedule(checkpoint.schedule), checkpoint.vocabulary
    require_fit(sampling.sampler, [named], schedule, vocabulary)
    require_student_fit(checkpoint.denoiser, named, [sampling.guidance_weight], sampling.sampler)
    require_new_folder(sampling.out)
    problems = guidance_problems(
        checkpoint.denoiser,
        checkpoint.training,
        named,
        [sampling.guidance_weight],
        sampling.sampler,
        schedule,
        vocabulary,
        label_sets,
    )
    if problems:
        print(f"warning: guidance method {named.label}: {problems}", file=sys.stderr)
    computation = chosen_computation(sampling.device, sampling.precision, checkpoint.denoiser.width)
    weaker = None
    if sampling.weak_checkpoint is not None:
        weaker = weaker_checkpoint(sampling.weak_checkpoint, sampling.source, checkpoint)
    guide = _guide(sampling, checkpoint, computation.device)
    if any(label_sets) and not checkpoint.denoiser.conditional:
        print(f"warning: {sampling.source} has no condition, so its images do not show label sets", file=sys.stderr)
    print(f"computing on {computation.device} in {computation.precision}", file=sys.stderr)
    # Before the images are sampled, so that a folder that cannot be written to is reported at once.
    try:
        with whole_folder(sampling.out) as folder:
            moments = sample_moments(
                checkpoint,
                label_sets,
                sampling.guidance_weight,
                guidance=sampling.guidance.method[0],
                weaker=weaker,
                guide=guide,
                sampler=sampling.sampler,
                noise_seeds=noise_seeds_of(name, sampling.seed, len(label_sets)),
                steps=spread_evenly(sampling.strip, sampling.sampler.sampling_steps + 1).tolist(),
                batch_size=sampling.batch_size,
                device=sampling.device,
                precision=sampling.precision,
            )
            written = _write(sampling, folder, moments, label_sets)
    except KeyboardInterrupt:
        print(f"\ninterrupted; {sampling.out} was not written", file=sys.stderr)
        raise SystemExit(130) from None
    counted = f"{len(moments)} image{'s' if len(moments) > 1 else ''} of {width}x{height}, seed {sampling.seed}"
    print(f"{sampling.out}: {', '.join(written)} ({counted}, w = {sampling.guidance_weight:g})")


def _write(sampling: Sampling, folder: Path, moments: PixelMoments, label_sets: list[LabelSet]) -> list[str]:
    """Write all files into a folder and return what the user is shown of their names."""
    from evaluator.reporting.picture_folders import write_picture, write_pictures

    images = moments[:, -1]
    write_pictures(folder, images)
    write_picture(folder / "grid.png", _sheet(images, GRID_COLUMNS))
    written = [f"0.png to {len(images) - 1}.png" if len(images) > 1 else "0.png", "grid.png"]
    if sampling.strip:
        write_picture(folder / "strip.png", _sheet(moments.flatten(0, 1), moments.shape[1]))
        written.append("strip.png")
    if sampling.ask:
        (folder / "ask.json").write_text(json.dumps(label_sets, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append("ask.json")
    return written


def _label_sets(sampling: Sampling, checkpoint: Checkpoint) -> tuple[str, list[LabelSet]]:
    """Return the name that decides the noise, and the label set of every image, empty for unconditional ones."""
    from lab.data.labels import load_label_sets, typed_label_set

    if sampling.label_sets is not None:
        return printable(sampling.label_sets.stem), list(load_label_sets(sampling.label_sets, checkpoint.vocabulary))
    if sampling.images:
        return "images", [()] * sampling.images
    try:
        return "ask", [typed_label_set(text, checkpoint.vocabulary) for text in sampling.ask]
    except LabError as error:
        raise LabError(f"--ask {error}") from None


def _guide(sampling: Sampling, checkpoint: Checkpoint, device: torch.device) -> ImageClassifier | None:
    """Return the classifier that guides, or None for the other methods.

    Raises:
        LabError: it cannot be read, or it differs in vocabulary or image size.
    """
    from evaluator.classifiers.weights import load_evaluator

    if (path := sampling.guide) is None:
        return None
    guide = load_evaluator(path, checkpoint.vocabulary, device)
    guide.require_image_shape(checkpoint.image_shape, path)
    return guide.classifier


def _sheet(pixels: PixelImages, columns: int) -> PixelImage:
    """Return images as one, in rows of this many: torchvision's grid."""
    from torchvision.utils import make_grid

    sheet: PixelImage = make_grid(pixels, nrow=columns, padding=GRID_GAP)[: pixels.shape[1]]
    return sheet
