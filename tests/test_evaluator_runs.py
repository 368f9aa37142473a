"""Trainings of an evaluator that are stopped: they go on to the same bits, and what does not fit is refused."""

import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evaluator.classifiers import runs
from evaluator.classifiers.networks import build_classifier
from evaluator.classifiers.runs import ClassifierRun, state_file
from evaluator.classifiers.training import train_classifier
from evaluator.classifiers.weights import load_evaluator
from evaluator.configuration import EvaluatorConfig
from lab.data.datasets import digits, stratified_splits
from lab.errors import LabError
from lab.machine.files import load_tensors, save_tensors
from tests.command import CPU, TINY, command, new_root, run

IMAGES = digits().subset(torch.arange(90))
CONFIG = EvaluatorConfig(width=4, epochs=3, batch_size=40)
STEPS = 3
"""Of an epoch: batches of 40, 40 and 10."""


def opened(path: Path, config: EvaluatorConfig = CONFIG) -> ClassifierRun:
    return ClassifierRun(path, config, IMAGES, 0, "float32", CPU, {"evaluator": config})


@pytest.mark.parametrize("stopped_at", [1, STEPS - 1, STEPS, STEPS + 2, 3 * STEPS])
def test_a_training_goes_on_to_the_bits_of_one_that_was_never_stopped(tmp_path: Path, stopped_at: int) -> None:
    whole = build_classifier(CONFIG, 1, 10, 0)
    losses = list(train_classifier(whole, IMAGES, CONFIG, 0))
    first = opened(tmp_path / "state.pt")
    for step in first.training.steps():
        if step == stopped_at:
            first._save()
            break
    torch.rand(7)  # the global RNG is another one in a new process
    second = opened(tmp_path / "state.pt")
    assert second.training.step == stopped_at
    before = torch.get_rng_state()
    list(second.epochs())
    assert torch.equal(torch.get_rng_state(), before)
    assert second.training.losses == losses
    assert not second.training.classifier.training
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, second.training.classifier.state_dict()[name]), name


def test_the_state_is_saved_as_time_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SECONDS_BETWEEN_STATES", 0)
    next(opened(tmp_path / "state.pt").epochs())
    assert opened(tmp_path / "state.pt").training.step == STEPS


def test_a_state_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    opened(path)._save()
    with pytest.raises(LabError, match=r"evaluator\.learning_rate is 0\.003 there, 0\.1 here"):
        opened(path, replace(CONFIG, learning_rate=0.1))
    content = load_tensors(path, "state", "")
    for damage in ({"training": None}, {"training": {"step": 1}}, {"training": content["training"] | {"step": "x"}}):
        save_tensors(path, content | damage)
        with pytest.raises(LabError, match="this training state (is incomplete|does not fit)"):
            opened(path)
    save_tensors(path, content | {"format": 0})
    with pytest.raises(LabError, match="format 0"):
        opened(path)


@pytest.mark.long
def test_the_command_stopped_while_its_evaluator_trains_resumes_it(tmp_path: Path) -> None:
    root = new_root(tmp_path)
    arguments = ["digits", *TINY, "--evaluator.epochs", str(epochs := 60)]
    process = subprocess.Popen(
        command(*arguments, "--root", str(root)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    printed = ""
    # The bar may skip an epoch.
    while not re.search(rf" ([2-9]|\d\d)/{epochs} ", printed):
        printed += process.stderr.read(1)
        assert process.poll() is None, printed
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert (process.returncode, "the same command resumes it" in rest) == (130, True)
    path = root / "checkpoints" / "digits" / "evaluator.pt"
    state = load_tensors(state_file(path), "state", "")["training"]
    assert 2 <= len(state["losses"]) < epochs
    assert not path.exists()

    assert run(root, *arguments) == 0
    assert not state_file(path).exists()
    splits = stratified_splits(digits(), 0.3, 0.2, 0)
    config = EvaluatorConfig(width=4, epochs=epochs)
    again = build_classifier(config, 1, 10, seed=0)
    list(train_classifier(again, splits.evaluator, config, seed=0))
    found = load_evaluator(path, splits.evaluator.vocabulary, CPU).classifier.state_dict()
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, found[name]), name
