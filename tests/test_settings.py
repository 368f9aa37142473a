"""Settings that grow: what was stored before a field was there is still known; only a real difference is refused."""

from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.choices import CHOICES, with_chosen_kinds
from experiments.configuration import Experiment
from experiments.presets import PRESETS
from experiments.stages import require_guidance
from lab.configuration.checks import as_primitives, require_same_settings
from lab.configuration.diffusion import CosineScheduleConfig, DDIMConfig, DPMSolverConfig, LinearScheduleConfig
from lab.configuration.guidance import GuidanceConfig
from lab.configuration.kinds import by_kind, changed_kind, read_kind, read_settings
from lab.configuration.networks import ContextUnetConfig
from lab.configuration.training import TrainingConfig
from lab.data.labels import load_label_sets, load_vocabulary
from lab.diffusion.samplers import SAMPLERS
from lab.diffusion.schedules import SCHEDULES
from lab.errors import LabError
from lab.guidance.limited_interval import IntervalMethod
from lab.networks.registry import NETWORKS
from lab.sweep.cells import SweepCell
from tests.cells import a_cell


@dataclass(frozen=True)
class TomorrowsTraining(TrainingConfig):
    """The training's settings with a field that came later."""

    patience: int = 3


@dataclass(frozen=True)
class TomorrowsDDIM(DDIMConfig):
    """DDIM with a field that came later."""

    churn: float = 0.0


@dataclass(frozen=True)
class TomorrowsInterval(IntervalMethod):
    """Interval guidance with a field that came later."""

    softness: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TomorrowsCell(SweepCell):
    """A sweep cell with a field that came later."""

    crop: str = ""


OWNER = Path("folder/training.pt")


def test_a_field_that_was_not_there_had_its_default() -> None:
    stored = as_primitives({"training": TrainingConfig(), "seed": 1})
    require_same_settings(OWNER, stored, {"training": TomorrowsTraining(), "seed": 1})
    with pytest.raises(LabError, match=r"training.patience is 3 there, 4 here"):
        require_same_settings(OWNER, stored, {"training": TomorrowsTraining(patience=4), "seed": 1})


def test_a_difference_is_named_and_that_of_a_kind_comes_first() -> None:
    stored = as_primitives({"schedule": LinearScheduleConfig(timesteps=100), "seed": 1})
    for now, told in (
        ({"schedule": LinearScheduleConfig(timesteps=200), "seed": 1}, "schedule.timesteps is 100 there, 200 here"),
        ({"schedule": CosineScheduleConfig(timesteps=200), "seed": 1}, "schedule.kind is linear there, cosine here"),
        ({"schedule": LinearScheduleConfig(timesteps=100), "seed": 2}, "seed is 1 there, 2 here"),
        ({"schedule": LinearScheduleConfig(timesteps=100)}, "seed is 1 there, None here"),
    ):
        with pytest.raises(LabError, match=told):
            require_same_settings(OWNER, stored, now)
    require_same_settings(OWNER, stored, {"schedule": LinearScheduleConfig(timesteps=100), "seed": 1})


@pytest.mark.parametrize("preset", PRESETS)
def test_the_settings_of_every_preset_are_read_back_as_they_were(preset: str) -> None:
    experiment = PRESETS[preset][1]
    settings = experiment.evaluator_settings() | experiment.generator_settings()
    require_same_settings(OWNER, as_primitives(settings), settings)
    stored = as_primitives({name: getattr(experiment, name) for name in ("denoiser", "schedule", "sampler")})
    assert read_kind(NETWORKS, stored["denoiser"], "denoiser") == experiment.denoiser
    assert read_kind(SCHEDULES, stored["schedule"], "schedule") == experiment.schedule
    assert read_kind(SAMPLERS, stored["sampler"], "sampler") == experiment.sampler


@pytest.mark.parametrize("preset", [name for name, (_, each) in PRESETS.items() if each.distillation.teacher is None])
def test_every_preset_guides_by_methods_that_fit_its_network_sampler_and_label_sets(preset: str) -> None:
    experiment = PRESETS[preset][1]
    vocabulary = load_vocabulary(Path("data", experiment.data.dataset, "objects.json"))
    label_sets = {path.stem: load_label_sets(path, vocabulary) for path in experiment.data.label_sets}
    require_guidance(experiment, vocabulary, label_sets)
    misfit = replace(
        experiment, denoiser=ContextUnetConfig(attention="objects"), guidance=GuidanceConfig(("annealed",))
    )
    with pytest.raises(LabError, match="annealed"):
        require_guidance(misfit, vocabulary, label_sets)


def test_where_the_images_lie_and_what_is_asked_decide_no_network() -> None:
    data = Experiment().data
    moved = replace(data, label_sets=(Path("mine.json"),))
    assert Experiment(data=moved).generator_settings() == Experiment(data=data).generator_settings()


def test_a_setting_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(LabError, match="DDIMConfig has no setting 'churn'; another version of the lab may have"):
        read_settings(DDIMConfig, {"kind": "ddim", "churn": 1})
    assert read_settings(TomorrowsDDIM, {"kind": "ddim", "eta": 0.5}) == TomorrowsDDIM(eta=0.5)
    with pytest.raises(LabError, match="sampler is 'dimm'; choose from ancestral, ddim, .*; did you mean 'ddim'"):
        read_kind(SAMPLERS, {"kind": "dimm"}, "sampler")
    damaged_settings: tuple[object, ...] = (None, [], "ddim", {"kind": []}, {})
    for damaged in damaged_settings:
        with pytest.raises(LabError):
            read_kind(SAMPLERS, damaged, "sampler")


cell = partial(a_cell, method_name="interval", method=IntervalMethod(), sampler=DDIMConfig())


def test_a_new_field_at_its_default_changes_no_cell_s_key() -> None:
    before = cell().key
    assert cell(sampler=TomorrowsDDIM()).key == before
    assert cell(method=TomorrowsInterval()).key == before
    assert cell(TomorrowsCell).key == before
    changed = [
        cell(sampler=TomorrowsDDIM(churn=0.1)),
        cell(method=TomorrowsInterval(softness=0.1)),
        cell(TomorrowsCell, crop="centre"),
    ]
    assert len({before, *(one.key for one in changed)}) == 4


def test_every_setting_of_a_cell_has_its_part_in_the_key() -> None:
    others: dict[str, Any] = {
        "checkpoint": "epoch0002", "epoch": 2, "step": 2, "checkpoint_digest": "x", "evaluator_digest": "x",
        "label_set_file": "other", "label_sets": (("cone",),), "method_name": "plain", "guidance_weight": 2.0,
        "method": IntervalMethod(low=0.1), "sampler": DPMSolverConfig(), "precision": "bfloat16", "seeds": 2,
        "weaker_checkpoint": "epoch0000", "weaker_digest": "y", "guide_digest": "z", "ema_length": 0.05,
    }  # fmt: skip
    assert others.keys() == {one.name for one in fields(SweepCell)}
    keys = {cell().key, *(cell(**{name: value}).key for name, value in others.items())}
    assert len(keys) == 1 + len(others)


def test_a_named_kind_keeps_the_settings_that_both_kinds_have() -> None:
    experiment = Experiment(sampler=DPMSolverConfig(sampling_steps=5, clamp=False))
    chosen = with_chosen_kinds(experiment, ["--sampler.kind", "ddim", "--schedule.kind=linear"])
    assert chosen.sampler == DDIMConfig(sampling_steps=5, clamp=False)
    assert chosen.schedule == LinearScheduleConfig()
    with pytest.raises(LabError, match="--schedule.kind is 'linaer'; choose from linear, .*; did you mean 'linear'"):
        with_chosen_kinds(experiment, ["--schedule.kind", "linaer"])


@given(data=st.data())
def test_there_and_back_a_kind_is_what_it_was(data: st.DataObject) -> None:
    classes = data.draw(st.sampled_from(list(CHOICES.values())))
    one, other = data.draw(st.sampled_from(classes)), data.draw(st.sampled_from(classes))
    assert changed_kind(changed_kind(one(), other), one) == one()


def test_every_kind_of_the_command_line_can_be_made_and_read() -> None:
    unoffered = {"schedule": {"betas"}, "denoiser": {"imported_unet2d", "distilled_unet"}}
    for section, registry in (("schedule", SCHEDULES), ("sampler", SAMPLERS), ("denoiser", NETWORKS)):
        offered = {kind: one for kind, one in by_kind(registry).items() if kind not in unoffered.get(section, ())}
        assert by_kind(CHOICES[section]) == offered
        assert unoffered.get(section, set()) <= by_kind(registry).keys()
    assert {type(preset.schedule) for _, preset in PRESETS.values()} <= set(CHOICES["schedule"])
    assert get_args(DDIMConfig.__dataclass_fields__["kind"].type) == ("ddim",)
