"""Session: a checkpoint that is ready to sample one image at a time, with what is predicted at every step."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from evaluator.classifiers.networks import logits_in_batches
from evaluator.classifiers.weights import Evaluator
from experiments.play.image_request import ImageRequest
from lab.configuration.networks import student_weights
from lab.data.labelled_images import to_pixels
from lab.diffusion.denoising import Denoising, timestep_grid
from lab.diffusion.noise_source import NoiseSource, StepRandomness
from lab.diffusion.samplers import moments
from lab.diffusion.schedules import noise_schedule
from lab.errors import LabError
from lab.guidance.classifier_free import null_conditions
from lab.guidance.method import Unguided, guided_by
from lab.guidance.observed_step import ObservedStep
from lab.machine.computation import Computation
from lab.sweep.cells import noise_seeds_of
from lab.sweep.fit import (
    guidance_problems,
    require_conditions_of_any_numbers,
    require_fit,
    require_student_fit,
)
from lab.training.checkpoints import Checkpoint
from lab.types import Conditions, Images, NoisePredictor, PixelImage, PixelImages, Timesteps


@dataclass(frozen=True)
class Predictions:
    """The clean images x_0 = (x_t - sigma_t eps) / alpha_t of one step's predictions of the noise, 8 bits.

    Args:
        timestep: t.
        conditional: of the condition alone, (C, H, W).
        unconditional: of the null condition; None if the network has no null condition.
        mixed: of what guidance makes of them.
    """

    timestep: int
    conditional: PixelImage
    unconditional: PixelImage | None
    mixed: PixelImage


@dataclass(frozen=True)
class Moment:
    """One step of the sampler.

    Args:
        step: its number, from 1.
        image: x after it, (C, H, W), 8 bits; after the last step the finished image.
        predictions: at its beginning.
        milliseconds: since sampling began.
    """

    step: int
    image: PixelImage
    predictions: Predictions
    milliseconds: float


class Session:
    """Samples one image at a time.

    Args:
        checkpoint: what to sample from.
        computation: where and how to compute.
        evaluator: judges the images, or None.
        weaker: the weaker checkpoint of autoguidance, or None.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        computation: Computation,
        evaluator: Evaluator | None = None,
        weaker: Checkpoint | None = None,
    ) -> None:
        self.checkpoint, self.computation, self.evaluator = checkpoint, computation, evaluator
        self.has_weaker = weaker is not None
        self._schedule = noise_schedule(checkpoint.schedule)
        self._network = checkpoint.noise_predictor(computation)
        self._weaker = self._network if weaker is None else weaker.noise_predictor(computation)

    @property
    def is_student(self) -> bool:
        """Whether the network takes w as an input."""
        return student_weights(self.checkpoint.denoiser) is not None

    @property
    def has_null_condition(self) -> bool:
        """Whether the network predicts without a condition as well as with one."""
        denoiser = self.checkpoint.denoiser
        untaught = self.is_student and self.checkpoint.training.get("context_dropout") == 0
        return denoiser.conditional and 0 in denoiser.label_set_sizes and not untaught

    @property
    def most_classes(self) -> int:
        """The largest size of a label set; 0 if the network has no condition."""
        denoiser = self.checkpoint.denoiser
        return min(denoiser.label_set_sizes.stop - 1, len(self.checkpoint.vocabulary)) if denoiser.conditional else 0

    def require_fit(self, wanted: ImageRequest) -> None:
        """Raise LabError unless the sampler, the method of guidance and the checkpoint go together."""
        require_fit(wanted.sampler, [wanted.guidance], self._schedule, self.checkpoint.vocabulary)
        require_conditions_of_any_numbers(self.checkpoint.denoiser, [wanted.guidance])
        require_student_fit(self.checkpoint.denoiser, wanted.guidance, [wanted.guidance_weight], wanted.sampler)
        if guided_by(wanted.guidance.method) == "guide" or (guided_by(wanted.guidance.method) and not self.evaluator):
            raise LabError("`play` guides by its evaluator alone; set by=judge, and give it one")
        if wanted.guidance.method.facts.needs_weaker and not self.has_weaker:
            raise LabError(f"guidance method {wanted.guidance.name} needs --weak-checkpoint; start `play` with it")

    def warning(self, wanted: ImageRequest) -> str | None:
        """Return in words how guidance exceeds what it is defined for or what the network has learned, or None."""
        checkpoint = self.checkpoint
        problems = guidance_problems(
            checkpoint.denoiser,
            checkpoint.training,
            wanted.guidance,
            [wanted.guidance_weight],
            wanted.sampler,
            self._schedule,
            checkpoint.vocabulary,
            [wanted.label_set],
        )
        return f"guidance method {wanted.guidance.label}: {problems}" if problems else None

    @torch.inference_mode()
    def moments(self, wanted: ImageRequest) -> Iterator[Moment]:
        """Yield each step of the sampler as it is computed.

        Raises:
            LabError: the finished image is not finite, or the network takes no such condition.
        """
        started = time.perf_counter()
        conditions = self.checkpoint.vocabulary.conditions([wanted.label_set]).to(self.computation.device)
        noise = NoiseSource(_seeds(wanted), self.checkpoint.image_shape, self._schedule.noise)
        predicted: list[Predictions] = []
        denoising = Denoising(self._watched(wanted, predicted), self._schedule, conditions, noise)
        for step, images in enumerate(moments(wanted.sampler, denoising)):
            if step == 0:
                continue
            if step == wanted.sampler.sampling_steps and not bool(images.isfinite().all()):
                raise LabError("the image is not finite; let the sampler clamp, or take a smaller guidance weight")
            image = to_pixels(images).cpu()[0]
            # A sampler that predicts several times in a step does so first where the step begins.
            yield Moment(step, image, predicted[0], 1000 * (time.perf_counter() - started))
            predicted.clear()

    def _watched(self, wanted: ImageRequest, predicted: list[Predictions]) -> NoisePredictor:
        """Return the guided noise predictor, which adds the predictions of each call to a list."""
        step: ObservedStep | None = None

        def observed(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
            eps = self._network(x_t, timesteps, conditions)
            if step is not None:
                step.note(x_t, timesteps, conditions, eps)
            return eps

        grid = timestep_grid(self._schedule.timesteps, wanted.sampler.sampling_steps)
        unguided = Unguided(
            observed,
            self._weaker,
            self._schedule,
            grid,
            self.checkpoint.vocabulary,
            StepRandomness(_seeds(wanted)),
            self.checkpoint.denoiser.prediction,
            {} if self.evaluator is None else {"judge": self.evaluator.classifier},
        )
        guided = wanted.guidance.method.guide(unguided, wanted.guidance_weight)

        def watched(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
            nonlocal step
            step = ObservedStep.at(x_t, timesteps, conditions)
            eps, seen, step = guided(x_t, timesteps, conditions), step, None
            predicted.append(self._predictions(seen, eps))
            return eps

        return watched

    def _predictions(self, step: ObservedStep, eps: Images) -> Predictions:
        """Return the clean images of a step's predictions; a half that guidance did not need is computed here."""
        t = int(step.timesteps[0])
        alpha, sigma = float(self._schedule.alpha[t]), float(self._schedule.sigma[t])
        wanted = [step.conditions, null_conditions(step.conditions)] if self.has_null_condition else [step.conditions]
        halves = [
            half if bool(evaluated.all()) else self._network(step.x_t, step.timesteps, conditions)
            for half, evaluated, conditions in zip(step.halves, step.evaluated, wanted, strict=False)
        ]
        pixels = to_pixels((step.x_t - sigma * torch.cat((eps, *halves))) / alpha).cpu()
        return Predictions(t, pixels[1], pixels[2] if len(pixels) > 2 else None, pixels[0])

    @torch.inference_mode()
    def opinion(self, image: PixelImage) -> list[tuple[str, float]] | None:
        """Return every class with the evaluator's probability, the likeliest first; None without an evaluator."""
        if self.evaluator is None:
            return None
        pixels: PixelImages = image.unsqueeze(0)
        probabilities = logits_in_batches(self.evaluator.classifier, pixels)[0].sigmoid()
        order = probabilities.argsort(descending=True, stable=True).tolist()
        return [(self.evaluator.vocabulary.names[k], float(probabilities[k])) for k in order]


def _seeds(wanted: ImageRequest) -> list[tuple[int, ...]]:
    return noise_seeds_of("ask", wanted.seed, 1)
