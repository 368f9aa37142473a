"""Judged cells: a finished sweep cell as the evaluator's tables want it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from experiments.configuration import Experiment

if TYPE_CHECKING:
    from evaluator.judging.cells import JudgedCell
    from lab.configuration.diffusion import SamplerConfig
    from lab.data.labels import ClassVocabulary, LabelSet
    from lab.guidance.methods import NamedMethod
    from lab.sweep.cells import StoredResult, SweepCell


def settings_in_words(cell: SweepCell) -> str:
    """Return all settings of a cell's guidance method as one cell of a table, like "phi=0.7"."""
    settings = asdict(cell.method) | ({"weak_checkpoint": cell.weaker_checkpoint} if cell.weaker_checkpoint else {})  # type: ignore[call-overload]  # a dataclass
    return " ".join(f"{name}={value}" for name, value in settings.items())


def guidance_problems(
    experiment: Experiment,
    named: NamedMethod,
    weights: Sequence[float],
    sampler: SamplerConfig,
    vocabulary: ClassVocabulary,
    label_sets: Collection[LabelSet],
) -> str:
    """Return in words how a method exceeds what it is defined for or what the network has learned, or nothing."""
    from lab.diffusion.schedules import noise_schedule
    from lab.sweep import fit

    training, schedule = asdict(experiment.training), noise_schedule(experiment.schedule)
    return fit.guidance_problems(
        experiment.denoiser, training, named, weights, sampler, schedule, vocabulary, label_sets
    )


def _problems(experiment: Experiment, cell: SweepCell, vocabulary: ClassVocabulary) -> str:
    """Return in words why a cell's row should be doubted, or nothing."""
    from evaluator.judging.cells import NOT_TO_BE_BELIEVED

    weights, label_sets = [cell.guidance_weight], cell.label_sets
    beyond = guidance_problems(experiment, cell.named_method, weights, cell.sampler, vocabulary, label_sets)
    return "; ".join([*([NOT_TO_BE_BELIEVED] if cell.guided_by_judge else []), *([beyond] if beyond else [])])


def judged(experiment: Experiment, result: StoredResult, vocabulary: ClassVocabulary) -> JudgedCell:
    """Return a finished cell as the evaluator's tables want it: the columns of `sweep.csv`, images and logits."""
    from evaluator.judging.cells import JudgedCell

    cell, images = result.cell, len(result.logits)
    return JudgedCell(
        settings={
            "experiment": experiment.name,
            "checkpoint": cell.checkpoint,
            "epoch": cell.epoch,
            "step": cell.step,
            "ema_length": float("nan") if cell.ema_length is None else cell.ema_length,
            "label_set": cell.label_set_file,
            "guidance_method": cell.named_method.label,
            "guidance_settings": settings_in_words(cell),
            "guidance_weight": cell.guidance_weight,
            "guidance_scale": 1 + cell.guidance_weight,
            # Four decimals are what the rounding of float32 leaves.
            "effective_guidance_scale": float("nan")
            if (scale := result.effective_guidance_scale) is None
            else round(scale, 4),
            "guidance_warning": _problems(experiment, cell, vocabulary),
            "sampler": cell.sampler.kind,
            "sampling_steps": cell.sampler.sampling_steps,
            "network_evaluations": result.network_evaluations,
            "seeds": cell.seeds,
        },
        cost={
            "seconds": round(result.seconds, 3),
            "warm_up_seconds": round(result.warm_up_seconds, 3),
            "images_per_second": round(images / result.seconds, 1),
            "device": result.device,
            "precision": cell.precision,
            "guide_evaluations": result.guide_evaluations,
        },
        label_sets=cell.asked,
        pixels=lambda: result.pixels,
        logits=result.logits,
        unconditional=cell.guidance_weight == cell.method.facts.unconditional_at,
        guided_by_classifier=cell.guide_digest != "",
    )
