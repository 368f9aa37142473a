"""Settings of guidance: the methods of the sweep."""

from dataclasses import dataclass

from lab.errors import LabError


@dataclass(frozen=True)
class GuidanceConfig:
    """The guidance methods of the sweep. The file of each method in `lab/guidance/` has its equation and settings."""

    method: tuple[str, ...] = ("plain",)
    """Guidance methods with their settings, like interval:low=0.1,high=2. plain: classifier-free guidance. interval
    (low, high): guidance between two noise levels only. schedule (shape, smallest, a, b, rate): a weight that changes
    with t. rescale (phi): rescaled guidance. projected (eta, momentum, largest_norm): APG. zero_star: CFG-Zero*.
    tangential: TCFG. magnitude (damping): MAMBO-G. plus_plus: CFG++, for DDIM and w from -1 to 0, without clamping.
    feedback (pi, start, full, largest): FBG. annealed (clean, noisy, noise, rescaled): CADS. independent: ICG, and
    timestep (spread, power): TSG, which need no null condition. auto: autoguidance, by the run's first checkpoint
    or --weak-checkpoint. composed (avoid, avoided_scale): one term for each class of a label set. classifier (scale,
    by, gradient, joint, marginal, softplus, likelihood): the gradient of a classifier. dynamic (candidates, by,
    likelihood): a weight that a classifier chooses for each image and step. distilled: a student of
    --distillation.teacher. A method may occur several times with different settings."""

    def __post_init__(self) -> None:
        if not self.method:
            raise LabError("--guidance.method is empty; give at least one method, for example plain")
