"""Checks that a sampler, guidance methods, a noise schedule, a denoiser and classes fit together, before a sweep."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from lab.configuration.diffusion import DDIMConfig, SamplerConfig
from lab.configuration.networks import ANY_SIZE, DenoiserConfig, student_steps, student_weights
from lab.data.labels import ClassVocabulary, LabelSet
from lab.diffusion.denoising import timestep_grid
from lab.diffusion.diffusers_samplers import DIFFUSERS_SAMPLERS, scheduler
from lab.diffusion.noise_source import StepRandomness
from lab.diffusion.schedules import NoiseSchedule
from lab.errors import LabError
from lab.guidance.method import Unguided, guided_by
from lab.guidance.methods import NamedMethod
from lab.types import ClassLogits, Conditions, ImageClassifier, Images, Timesteps


def require_fit(
    sampler: SamplerConfig, methods: Sequence[NamedMethod], schedule: NoiseSchedule, vocabulary: ClassVocabulary
) -> None:
    """Raise LabError unless the sampler works with the noise schedule and every method works with both.

    Args:
        sampler: the settings of the sampler.
        methods: the guidance methods.
        schedule: the noise schedule that the denoiser was trained on.
        vocabulary: the classes of the conditions; a method's settings may name them.
    """
    grid = timestep_grid(schedule.timesteps, sampler.sampling_steps)
    if type(sampler) in DIFFUSERS_SAMPLERS:
        scheduler(sampler, schedule)

    def nothing(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        return x_t

    for named in methods:
        named.require_sampler(sampler)
        unguided = Unguided(nothing, nothing, schedule, grid, vocabulary, classifiers=_classifiers(named, vocabulary))
        named.method.guide(unguided, 0.0)


def _classifiers(named: NamedMethod, vocabulary: ClassVocabulary) -> dict[str, ImageClassifier]:
    """Return a classifier that sees nothing under the name of the one that the method needs, if it needs one."""

    def blind(images: Images) -> ClassLogits:
        return images.sum(dim=(1, 2, 3))[:, None].expand(-1, len(vocabulary))

    return {name: blind} if (name := guided_by(named.method)) else {}


def require_known_conditions(
    denoiser: DenoiserConfig,
    methods: Sequence[NamedMethod],
    weights: Sequence[float],
    sampler: SamplerConfig,
    schedule: NoiseSchedule,
    vocabulary: ClassVocabulary,
    label_sets: Collection[LabelSet],
) -> None:
    """Raise LabError unless the denoiser takes all conditions that guidance gives it.

    Args:
        denoiser: its settings.
        methods: the methods of guidance.
        weights: the guidance weights.
        sampler: its settings.
        schedule: the noise schedule that the denoiser was trained on.
        vocabulary: the classes of the conditions.
        label_sets: those that are sampled for.
    """
    require_conditions_of_any_numbers(denoiser, methods)
    if (sizes := denoiser.label_set_sizes) == ANY_SIZE:
        return
    for named in methods:
        for weight in weights:
            given = sizes_given(named, weight, sampler, schedule, vocabulary, label_sets)
            if 0 in given and 0 not in sizes:
                raise LabError(
                    f"the network has no null condition, which guidance method {named.label} at w = {weight:g} needs; "
                    f"choose --guidance.method independent, or plain with --sweep.guidance-weights 0"
                )
            if given and max(given) >= sizes.stop:
                raise LabError(
                    f"a label set has {max(given)} classes, and the network takes {sizes.stop - 1} an image; "
                    f"give it label sets of one class, or choose --guidance.method composed"
                )


def reads_classes_alone(denoiser: DenoiserConfig) -> bool:
    """Return whether the denoiser takes only conditions of 0 and 1, and reads which classes they have."""
    return bool(getattr(denoiser, "binary_conditions", False))


def require_conditions_of_any_numbers(denoiser: DenoiserConfig, methods: Sequence[NamedMethod]) -> None:
    """Raise LabError if a method adds noise to conditions and the denoiser takes only those of 0 and 1."""
    for named in methods:
        if named.method.facts.noises_conditions and reads_classes_alone(denoiser):
            raise LabError(
                f"--guidance.method {named.name} adds noise to the condition, and this network only reads which "
                f"classes it has; choose another method"
            )


def require_student_fit(
    denoiser: DenoiserConfig, named: NamedMethod, weights: Sequence[float], sampler: SamplerConfig
) -> None:
    """Raise LabError unless a method for students has a student, and another method another network.

    The student must have learned every w, and the sampler's steps.
    """
    taken = student_weights(denoiser)
    if not named.method.facts.for_students:
        if taken is not None:
            raise LabError(
                f"this checkpoint is a student, which takes w as an input; use --guidance.method distilled, not "
                f"{named.name}"
            )
        return
    if taken is None:
        raise LabError(
            f"--guidance.method {named.name} needs a student, a checkpoint that takes w as an input; train one with "
            f"--distillation.teacher, or choose plain"
        )
    low, high = taken
    if beyond := [weight for weight in weights if not low <= weight <= high]:
        raise LabError(
            f"w = {beyond[0]:g} is outside the range that the student learned; choose from {low:g} to {high:g}"
        )
    require_learned_steps(denoiser, sampler)


def require_learned_steps(denoiser: DenoiserConfig, sampler: SamplerConfig) -> None:
    """Raise LabError if the denoiser is a student of few steps and the sampler takes others."""
    steps = student_steps(denoiser)
    if steps and not (isinstance(sampler, DDIMConfig) and sampler.sampling_steps == steps and sampler.eta == 0):
        raise LabError(
            f"this student learned to sample in {steps} DDIM steps; use --sampler.kind ddim "
            f"--sampler.sampling-steps {steps}, without --sampler.eta"
        )


def require_all_timesteps(denoiser: DenoiserConfig, use: str) -> None:
    """Raise LabError if the denoiser is a student of few steps; `use` says what it is needed for."""
    if steps := student_steps(denoiser):
        raise LabError(
            f"{use} needs a network that learned all timesteps, and this student learned only those of its {steps} "
            f"steps; choose another checkpoint"
        )


def sizes_given(
    named: NamedMethod,
    weight: float,
    sampler: SamplerConfig,
    schedule: NoiseSchedule,
    vocabulary: ClassVocabulary,
    label_sets: Collection[LabelSet],
) -> set[int]:
    """Return the sizes of the label sets that a method gives the network at a weight; 0 is the null condition.

    The method is called at every timestep, with a predictor that looks at the conditions alone.
    """
    grid = timestep_grid(schedule.timesteps, sampler.sampling_steps)
    conditions = vocabulary.conditions(sorted(set(label_sets)))
    x_t = torch.zeros(len(conditions), 1, 2, 2)
    randomness = StepRandomness([(place,) for place in range(len(conditions))])
    given: set[int] = set()

    def looking(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        given.update(conditions.count_nonzero(dim=1).tolist())
        return x_t

    def nothing(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        return x_t

    unguided = Unguided(
        looking, nothing, schedule, grid, vocabulary, randomness, classifiers=_classifiers(named, vocabulary)
    )
    guided = named.method.guide(unguided, weight)
    for t in grid:
        guided(x_t, torch.full((len(x_t),), t), conditions)
    return given


def guidance_problems(
    denoiser: DenoiserConfig,
    training: Mapping[str, Any],
    named: NamedMethod,
    weights: Sequence[float],
    sampler: SamplerConfig,
    schedule: NoiseSchedule,
    vocabulary: ClassVocabulary,
    label_sets: Collection[LabelSet],
) -> str:
    """Return in words how a method exceeds what it is defined for or what the network has learned, or nothing.

    Args:
        denoiser, training: as of `null_condition_problem`.
        named, weights, sampler, schedule, vocabulary, label_sets: as of `require_known_conditions`.
    """
    problems = (
        named.problems(weights, sampler),
        null_condition_problem(denoiser, training, named, weights, sampler, schedule, vocabulary, label_sets),
    )
    return "; ".join(filter(None, problems))


def null_condition_problem(
    denoiser: DenoiserConfig,
    training: Mapping[str, Any],
    named: NamedMethod,
    weights: Sequence[float],
    sampler: SamplerConfig,
    schedule: NoiseSchedule,
    vocabulary: ClassVocabulary,
    label_sets: Collection[LabelSet],
) -> str:
    """Return in words at which weights a method needs the null condition that training has not shown, or nothing.

    Args:
        denoiser: the network's settings.
        training: the settings of its training by name. Nothing is known of a training that it started from.
        named, weights, sampler, schedule, vocabulary, label_sets: as of `require_known_conditions`.
    """
    if not denoiser.conditional or training.get("context_dropout") != 0 or training.get("start_from") is not None:
        return ""
    if student_weights(denoiser) is not None and not named.method.facts.for_students:
        return ""  # sampled from its teacher, which knows the null condition
    using = [
        f"w = {weight:g}"
        for weight in weights
        if 0 in sizes_given(named, weight, sampler, schedule, vocabulary, label_sets)
    ]
    if not using:
        return ""
    return (
        f"at {', '.join(using)} it gives the network the null condition, which --training.context-dropout 0 did not "
        f"teach it; independent and timestep do without"
    )
