"""The command `play`: loads what is sampled from, and serves the page. Importing this imports no torch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from experiments.play.configuration import Play
from experiments.weaker import weaker_checkpoint
from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from evaluator.classifiers.weights import Evaluator
    from experiments.play.session import Session
    from lab.training.checkpoints import Checkpoint

MOST_PIXELS_OF_ONE_THREAD = 32 * 32
"""The largest image, in pixels, that is sampled in one thread."""


def play(settings: Play) -> None:
    """Serve the page until Ctrl-C, and print its address."""
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise LabError(f"play needs the package {missing[0]}, which is not installed; run: pip install -e '.[page]'")
    from experiments.play.page import play_page
    from experiments.play.server import ADDRESS, bound, serve

    source = settings.source()
    session = opened_session(settings, source)
    keep_to_one_thread(session.checkpoint.image_shape)
    page = play_page(session, source)
    listening = bound(settings.port)
    warm_up(session)
    judged = "" if session.evaluator is None else f", judged by {settings.evaluator_file()}"
    computing = f"computing on {session.computation.device} in {session.computation.precision}"
    print(f"sampling from {source}{judged}, {computing}")
    print(f"open http://{ADDRESS}:{listening.getsockname()[1]}/ in a browser; Ctrl-C ends the command", flush=True)
    serve(session, page, listening)
    print("ended")


def opened_session(settings: Play, source: Path) -> Session:
    """Return a session of the chosen files.

    Raises:
        LabError: a file is missing or damaged, or they do not go together.
    """
    from evaluator.reporting.picture_folders import require_drawable
    from experiments.play.session import Session
    from lab.machine.computation import chosen_computation
    from lab.pipelines import import_pipeline
    from lab.training.checkpoints import read_checkpoint

    checkpoint = (read_checkpoint if settings.pipeline is None else import_pipeline)(source)
    require_drawable(checkpoint.image_shape[0])
    computation = chosen_computation(settings.device, settings.precision, checkpoint.denoiser.width)
    weaker = None
    if settings.weak_checkpoint is not None:
        weaker = weaker_checkpoint(settings.weak_checkpoint, source, checkpoint)
    return Session(checkpoint, computation, _evaluator(settings, checkpoint, computation.device), weaker)


def _evaluator(settings: Play, checkpoint: Checkpoint, device: torch.device) -> Evaluator | None:
    from evaluator.classifiers.weights import load_evaluator

    if (path := settings.evaluator_file()) is None:
        return None
    evaluator = load_evaluator(path, checkpoint.vocabulary, device)
    evaluator.require_image_shape(checkpoint.image_shape, path)
    return evaluator


def keep_to_one_thread(image_shape: tuple[int, int, int]) -> None:
    """Compute single small images in one thread: a second one mostly waits, and costs time where others compute."""
    import torch

    _, height, width = image_shape
    if height * width <= MOST_PIXELS_OF_ONE_THREAD:
        torch.set_num_threads(1)


def warm_up(session: Session) -> None:
    """Sample one image in one step, so that the first request does not wait for what is set up once."""
    from experiments.play.image_request import ImageRequest
    from lab.configuration.diffusion import DDIMConfig
    from lab.guidance.methods import named_method

    names = session.checkpoint.vocabulary.names[:1] if session.most_classes else ()
    (moment,) = session.moments(ImageRequest(names, 0.0, named_method("plain"), DDIMConfig(sampling_steps=1), seed=0))
    session.opinion(moment.image)
