"""The page of `play`: one HTML file, whose script requests images from its own server and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evaluator.reporting.page.document import asset, json_in_html, one_script, policy, rendered
from experiments.play.image_request import MOST_STEPS
from experiments.play.session import Session
from lab.configuration.diffusion import DDIMConfig, DPMSolverConfig
from lab.configuration.networks import student_steps, student_weights
from lab.diffusion.diffusers_samplers import DIFFUSERS_SAMPLERS
from lab.diffusion.samplers import SAMPLERS
from lab.guidance.method import guided_by
from lab.guidance.methods import METHODS
from lab.sweep.fit import reads_classes_alone
from lab.text import printable

REPORT = "evaluator.reporting.page"
"""The room of a report's page, whose style and elements this page shares."""
FIRST_WEIGHT = 2.0
FIRST_STEPS = 8


@dataclass(frozen=True)
class PlayPage:
    """The page and the policy that it is served under.

    Args:
        html: its text.
        policy: its content security policy.
    """

    html: str
    policy: str


def play_page(session: Session, source: Path) -> PlayPage:
    """Return the page of a session.

    Args:
        session: what is sampled from.
        source: its file or folder.
    """
    shown, script = contents(session, source), one_script([*_shared("bytes.js", "elements.js"), asset("play.js", ROOM)])
    style = "\n".join((*_shared("page.css"), asset("play.css", ROOM)))
    html = rendered(
        asset("page.html.jinja", ROOM), shown=shown, contents=json_in_html(shown), script=script, style=style
    )
    return PlayPage(html, policy(script, style, connections="'self'") + "; frame-ancestors 'none'")


ROOM = __package__


def _shared(*names: str) -> list[str]:
    return [asset(name, REPORT) for name in names]


def contents(session: Session, source: Path) -> Mapping[str, Any]:
    """Return what the page knows, as a JSON object."""
    checkpoint, computation = session.checkpoint, session.computation
    channels, height, width = checkpoint.image_shape
    samplers = [kind for kind in SAMPLERS if kind not in DIFFUSERS_SAMPLERS or find_spec("diffusers")]
    most_steps = min(MOST_STEPS, checkpoint.schedule.timesteps)
    learned_steps = student_steps(checkpoint.denoiser)
    return {
        "source": printable(str(source)),
        "computing": f"computing on {computation.device} in {computation.precision}",
        "image": {"channels": channels, "height": height, "width": width},
        "classes": list(checkpoint.vocabulary.names) if session.most_classes else [],
        "most_classes": session.most_classes,
        "null_condition": session.has_null_condition,
        "judged": session.evaluator is not None,
        "methods": [
            {"name": name, "settings": _settings(method), "given": "by=judge" if guided_by(method()) else ""}
            for name, method in METHODS.items()
            if method.facts.for_students == session.is_student
            and not (method.facts.noises_conditions and reads_classes_alone(checkpoint.denoiser))
            and (session.has_weaker or not method.facts.needs_weaker)
            and (session.evaluator is not None or not guided_by(method()))
        ],
        "samplers": [
            {
                "kind": str(kind.kind),  # type: ignore[attr-defined]  # each has the field
                "settings": {
                    one.name: one.default for one in fields(kind) if one.name not in ("kind", "sampling_steps")
                },
            }
            for kind in samplers
        ],
        "most_steps": most_steps,
        "first": {
            "guidance_weight": _first_weight(session),
            "sampler": DDIMConfig().kind if learned_steps else DPMSolverConfig().kind,
            "sampling_steps": learned_steps or min(FIRST_STEPS, most_steps),
        },
    }


def _first_weight(session: Session) -> float:
    """Return the w to begin with: `FIRST_WEIGHT`, or the nearest that the network can be guided at."""
    if (learned := student_weights(session.checkpoint.denoiser)) is not None:
        return min(max(FIRST_WEIGHT, learned[0]), learned[1])
    return FIRST_WEIGHT if session.has_null_condition else 0.0


def _settings(method: type) -> str:
    """Return the settings of a method and their defaults, like "low=0.3,high=5.0"."""
    return ",".join(f"{one.name}={'' if one.default == () else one.default}" for one in fields(method))
