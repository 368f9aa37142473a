"""What the tests of `play` sample from, and the command as a process."""

import http.client
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evaluator.classifiers.networks import build_classifier
from evaluator.classifiers.weights import Evaluator, save_evaluator
from evaluator.configuration import EvaluatorConfig
from lab.configuration.diffusion import CosineScheduleConfig
from lab.configuration.networks import ContextUnetConfig
from lab.data.labels import ClassVocabulary
from lab.networks.registry import build_denoiser
from lab.training.checkpoints import Checkpoint, save_checkpoint
from tests.command import command

SHAPE = (3, 8, 8)
TIMESTEPS = 400
REQUEST: dict[str, Any] = {
    "label_set": ["red"],
    "guidance_weight": 2.0,
    "method": "plain",
    "sampler": {"kind": "ddim", "sampling_steps": 5},
    "seed": 3,
}


def a_checkpoint(path: Path, names: tuple[str, ...] = ("red", "green", "blue"), judged: bool = True) -> Checkpoint:
    """Save an untrained checkpoint, and an untrained evaluator beside it, and return the checkpoint."""
    config, schedule = ContextUnetConfig(n_feat=8), CosineScheduleConfig(timesteps=TIMESTEPS)
    network = build_denoiser(config, SHAPE, names, schedule, seed=1)
    with torch.no_grad():  # an untrained network has no opinion of the condition
        for place, weights in enumerate(network.parameters()):
            weights.add_(0.3 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(place)))
    vocabulary = ClassVocabulary(names)
    checkpoint = Checkpoint(config, schedule, SHAPE, vocabulary, 1, 1, {}, network.state_dict())
    save_checkpoint(path, checkpoint)
    if judged:
        judge = EvaluatorConfig(width=4)
        classifier = build_classifier(judge, 3, len(names), seed=0)
        save_evaluator(path.with_name("evaluator.pt"), Evaluator(judge, SHAPE, vocabulary, classifier, {}))
    return checkpoint


@dataclass(frozen=True)
class Served:
    """The command `play` as a process.

    Args:
        process: the process.
        port: of its page.
    """

    process: subprocess.Popen[str]
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def get(self, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/", headers=headers)
        return connection.getresponse()

    def post(self, body: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/sample", body, headers)
        return connection.getresponse()

    def sample(self, **changes: Any) -> list[dict[str, Any]]:
        """Return the lines of the answer to a request."""
        return [json.loads(line) for line in self.post(json.dumps(REQUEST | changes)).read().splitlines()]


@contextmanager
def served(*arguments: str) -> Iterator[Served]:
    """Yield the command `play` when it serves its page; end it afterwards, if it has not ended."""
    process = subprocess.Popen(
        command("play", "--device", "cpu", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        opened = re.fullmatch(r"open http://127\.0\.0\.1:(\d+)/ in a browser; .*\n", process.stdout.readline())
        assert opened is not None, process.communicate()[1]
        yield Served(process, int(opened[1]))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@contextmanager
def served_checkpoint(folder: Path) -> Iterator[Served]:
    """Serve the checkpoint of `a_checkpoint`, written into this folder."""
    path = folder / "epoch0001.pt"
    a_checkpoint(path)
    with served("--checkpoint", str(path)) as opened:
        yield opened
