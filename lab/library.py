"""The generator from Python: train and sample in one call each. Nothing is written unless a folder is given.

    import lab

    splits = lab.stratified_splits(lab.digits(), evaluator_share=0.3, held_out_share=0.2, seed=0)
    checkpoint = lab.train(splits.generator)
    pixels = lab.sample(checkpoint, [["7"], ["3"]], guidance_weight=2.0)

`docs/python.md` has more, such as one's own noise predictor or guidance.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from lab.configuration.diffusion import DPMSolverConfig, SamplerConfig
from lab.data.labelled_images import LabelledImages, to_float, to_pixels
from lab.diffusion.denoising import Beginning, Denoising, timestep_grid
from lab.diffusion.noise_source import NoiseSource, StepRandomness
from lab.diffusion.samplers import moments
from lab.diffusion.schedules import NoiseSchedule, noise_schedule
from lab.errors import LabError
from lab.guidance.method import Unguided
from lab.guidance.methods import named_method
from lab.machine.computation import chosen_computation
from lab.machine.memory import images_that_fit
from lab.sweep.cells import noise_seeds_of
from lab.sweep.fit import (
    require_all_timesteps,
    require_conditions_of_any_numbers,
    require_fit,
    require_learned_steps,
    require_student_fit,
)
from lab.training.checkpoints import Checkpoint, load_checkpoint
from lab.training.recipe import Recipe
from lab.training.runs import TrainingRun
from lab.training.trainer import Trainer
from lab.types import ImageClassifier, NoisePredictor, PixelImage, PixelImages, PixelMoments

Guidance = Callable[[NoisePredictor, float], NoisePredictor]
"""Makes a guided noise predictor of a noise predictor and a weight."""


def train(
    images: LabelledImages,
    recipe: Recipe | None = None,
    *,
    folder: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    progress: bool = True,
) -> Checkpoint:
    """Train a denoiser and return its EMA copy, ready to sample from.

    Args:
        images: what to train on; keep those that an evaluator learns from out of it.
        recipe: the network, the noise schedule, the training and the seed; the defaults of each if not given.
        folder: where to keep checkpoints and the training's state, so that the same call goes on where it stopped; by
            default nothing is written.
        device: "auto", "cpu", "cuda", ...
        precision: "auto", "float32" or "bfloat16".
        progress: whether to show a progress bar.

    Raises:
        LabError: the network does not fit the images, the loss is no longer finite, or the folder holds another
            training.
    """
    recipe = recipe or Recipe()
    computation = chosen_computation(device, precision, recipe.denoiser.width)
    if recipe.training.power_emas and folder is None:
        raise LabError("training.power_emas saves snapshots, and train has no folder for them; give `folder`")
    run: Trainer | TrainingRun
    if folder is None:
        run = Trainer(recipe, images, computation)
    else:
        sections = ("denoiser", "schedule", "training", "seed")
        run = TrainingRun(folder, images, recipe, {name: getattr(recipe, name) for name in sections}, computation)
    with tqdm(
        desc="training", total=run.total_steps, initial=run.steps_so_far, unit="step", disable=not progress
    ) as bar:
        for step in run.steps():
            bar.set_postfix(epoch=step.epoch, loss=f"{step.loss:.4f}", refresh=False)
            bar.update()
    return load_checkpoint(run.kept[-1].path, images.vocabulary) if isinstance(run, TrainingRun) else run.checkpoint()


def sample(
    checkpoint: Checkpoint,
    label_sets: Sequence[Sequence[str]],
    guidance_weight: float = 0.0,
    *,
    guidance: str | Guidance = "plain",
    weaker: Checkpoint | None = None,
    guide: ImageClassifier | None = None,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: bool = True,
) -> PixelImages:
    """Return an image for each label set, (N, C, H, W), 8 bits.

    Image i depends on the seed, on i and on its label set, not on the others.

    Args:
        checkpoint: what to sample from.
        label_sets: class names for each image; an empty label set gives an unconditional image.
        guidance_weight: w in eps = (1 + w) eps_conditional - w eps_unconditional.
        guidance: a method by name, like "interval:low=0.1,high=2", or a function of a noise predictor and w.
        weaker: the weaker checkpoint of "auto".
        guide: the classifier of "classifier" and "dynamic", on the same device.
        sampler: settings of the sampler; DPM-Solver++(2M) with 8 steps if not given.
        seed: of the starting noise.
        device: "auto", "cpu", "cuda", ...
        precision: "auto", "float32" or "bfloat16".
        progress: whether to show a progress bar.

    Raises:
        LabError: an unknown class or method, a sampler that does not fit, or an image that is not finite.
    """
    finished = sample_moments(
        checkpoint,
        label_sets,
        guidance_weight,
        guidance=guidance,
        weaker=weaker,
        guide=guide,
        sampler=sampler,
        noise_seeds=noise_seeds_of("ask", seed, len(label_sets)),
        device=device,
        precision=precision,
        progress=progress,
    )
    return finished[:, -1]


def sample_moments(
    checkpoint: Checkpoint,
    label_sets: Sequence[Sequence[str]],
    guidance_weight: float,
    *,
    guidance: str | Guidance = "plain",
    weaker: Checkpoint | None = None,
    guide: ImageClassifier | None = None,
    sampler: SamplerConfig | None = None,
    noise_seeds: Sequence[tuple[int, ...]],
    steps: Sequence[int] = (),
    batch_size: int = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: bool = True,
) -> PixelMoments:
    """Return every image after each of these sampling steps: (N, len(steps), C, H, W), 8 bits.

    Args: as `sample`, and
        noise_seeds: what decides the noise of each image; see `lab.diffusion.noise_source.NoiseSource`.
        steps: in rising order, 0 for the starting noise; by default the last one alone, for finished images.
        batch_size: images sampled together; 0 for as many as fit into memory.
    """
    sampler = sampler or DPMSolverConfig()
    computation = chosen_computation(device, precision, checkpoint.denoiser.width)
    schedule, vocabulary, shape = noise_schedule(checkpoint.schedule), checkpoint.vocabulary, checkpoint.image_shape
    conditions = vocabulary.conditions([tuple(label_set) for label_set in label_sets]).to(computation.device)
    named = named_method(guidance) if isinstance(guidance, str) else None
    methods = [] if named is None else [named]
    require_fit(sampler, methods, schedule, vocabulary)
    require_conditions_of_any_numbers(checkpoint.denoiser, methods)
    require_learned_steps(checkpoint.denoiser, sampler)
    for each in methods:
        require_student_fit(checkpoint.denoiser, each, [guidance_weight], sampler)
    network = checkpoint.noise_predictor(computation)
    if named is not None and named.method.facts.needs_weaker != (weaker is not None):
        raise LabError(
            f"guidance {named.name}: give `weaker`, a weaker checkpoint, with auto, and with no other method"
        )
    if weaker is not None:
        require_all_timesteps(weaker.denoiser, "`weaker`")
    worse = network if weaker is None else weaker.noise_predictor(computation)
    grid = timestep_grid(schedule.timesteps, sampler.sampling_steps)

    def guided(seeds: Sequence[tuple[int, ...]]) -> NoisePredictor:
        if named is None:
            return guidance(network, guidance_weight)  # type: ignore[operator]  # a function, where it is no name
        unguided = Unguided(
            network,
            worse,
            schedule,
            grid,
            vocabulary,
            StepRandomness(seeds),
            checkpoint.denoiser.prediction,
            {} if guide is None else {"guide": guide},
        )
        return named.method.guide(unguided, guidance_weight)

    size = batch_size or images_that_fit(network, shape, len(vocabulary), computation.device)
    shown = set(steps or (sampler.sampling_steps,))
    parts = [slice(begin, begin + size) for begin in range(0, len(noise_seeds), size)]
    batches = []
    total = len(parts) * sampler.sampling_steps
    with torch.inference_mode(), tqdm(desc="sampling", total=total, unit="step", disable=not progress) as bar:
        for part in parts:
            noise = NoiseSource(noise_seeds[part], shape, schedule.noise)
            kept = []
            denoising = Denoising(guided(noise_seeds[part]), schedule, conditions[part], noise)
            for moment, images in enumerate(moments(sampler, denoising)):
                if moment in shown:
                    kept.append(to_pixels(images).cpu())
                bar.update(int(moment > 0))
            if not bool(images.isfinite().all()):
                raise LabError("an image is not finite; let the sampler clamp, or take a smaller guidance weight")
            batches.append(torch.stack(kept, dim=1))
    return torch.cat(batches)


def bring_back(
    checkpoint: Checkpoint,
    image: PixelImage,
    timesteps: Sequence[int],
    *,
    sampler: SamplerConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: bool = True,
) -> PixelMoments:
    """Noise an image to each of these timesteps and denoise it from there, without a condition (Meng et al. 2022).

    Args:
        checkpoint: what to sample from.
        image: (C, H, W), 8 bits, of the checkpoint's shape.
        timesteps: each from 0 to T - 1; the larger, the less of the image is left.
        sampler: settings of one of the lab's own samplers; DPM-Solver++(2M) with 8 steps if not given. It takes those
            of its steps that lie below the timestep.
        seed: of the noise, which is the same at every timestep.
        device: "auto", "cpu", "cuda", ...
        precision: "auto", "float32" or "bfloat16".
        progress: whether to show a progress bar.

    Returns:
        (timesteps, 2, C, H, W): the noised image and the one that was brought back.

    Raises:
        LabError: the image has another shape, a timestep is out of range, the sampler starts from noise alone, or the
            checkpoint is a student of few steps.
    """
    sampler = sampler or DPMSolverConfig()
    computation = chosen_computation(device, precision, checkpoint.denoiser.width)
    schedule, predictor = noise_schedule(checkpoint.schedule), checkpoint.noise_predictor(computation)
    require_fit(sampler, [], schedule, checkpoint.vocabulary)
    require_all_timesteps(checkpoint.denoiser, "bring_back")
    if tuple(image.shape) != checkpoint.image_shape:
        raise LabError(
            f"the image has shape {tuple(image.shape)}; it must have the checkpoint's, {checkpoint.image_shape}"
        )
    for timestep in timesteps:
        if not 0 <= timestep < schedule.timesteps:
            raise LabError(f"timesteps contains {timestep}; it must be from 0 to {schedule.timesteps - 1}")
    conditions = checkpoint.vocabulary.conditions([()]).to(computation.device)
    x_0 = to_float(image.unsqueeze(0)).to(computation.device)
    rows = []
    with torch.inference_mode():
        for timestep in tqdm(timesteps, desc="bringing back", unit="image", disable=not progress):
            noise = NoiseSource(noise_seeds_of("bring back", seed, 1), checkpoint.image_shape, schedule.noise)
            first, *_, last = moments(
                sampler, Denoising(predictor, schedule, conditions, noise, Beginning(x_0, timestep))
            )
            rows.append(to_pixels(torch.cat((first, last))).cpu())
    return torch.stack(rows)


def sample_with(
    predictor: NoisePredictor,
    schedule: NoiseSchedule,
    conditions: torch.Tensor,
    image_shape: tuple[int, int, int],
    sampler: SamplerConfig | None = None,
    seed: int = 0,
) -> PixelImages:
    """Return images by any noise predictor, one for each condition, (N, C, H, W), 8 bits.

    Args:
        predictor: maps (x_t, timesteps, conditions) to the noise in x_t; guidance, if any, is already around it.
        schedule: the noise schedule that it was trained on.
        conditions: (N, ...), handed on to the predictor, on its device.
        image_shape: (channels, height, width).
        sampler: settings of the sampler; DPM-Solver++(2M) with 8 steps if not given.
        seed: of the starting noise.
    """
    noise = NoiseSource(noise_seeds_of("ask", seed, len(conditions)), image_shape, schedule.noise)
    denoising = Denoising(predictor, schedule, conditions, noise)
    with torch.inference_mode():
        *_, images = moments(sampler or DPMSolverConfig(), denoising)
    return to_pixels(images).cpu()
