"""`score`: pictures made by any program, judged by the coursework's file or this lab's."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import resnet18

from evaluator.classifiers.networks import build_classifier
from evaluator.classifiers.weights import Evaluator, load_evaluator, save_evaluator
from evaluator.configuration import EvaluatorConfig
from lab.data.labels import ClassVocabulary
from lab.errors import LabError
from run_experiments import main
from tests.command import command

CLASSES = tuple(f"{colour} {shape}" for shape in ("cube", "sphere", "cylinder") for colour in "abcdefgh")
VOCABULARY = ClassVocabulary(CLASSES)
CPU = torch.device("cpu")


@cache
def coursework_network(classes: int = 24) -> nn.Module:
    """The coursework's evaluator as its own script builds it, with weights and batch statistics of its own."""
    torch.manual_seed(0)
    network: nn.Module = resnet18(weights=None)
    network.fc = nn.Sequential(nn.Linear(512, classes), nn.Sigmoid())
    network.train()
    network(torch.randn(8, 3, 64, 64))
    return network.eval()


@pytest.fixture(params=["zip", "before torch 1.6"])
def coursework_file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "checkpoint.pth"
    torch.save(
        {"model": coursework_network().state_dict()}, path, _use_new_zipfile_serialization=request.param == "zip"
    )
    return path


def test_the_coursework_file_is_read_unchanged(coursework_file: Path) -> None:
    evaluator = load_evaluator(coursework_file, VOCABULARY, CPU)
    images = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(evaluator.classifier(images).sigmoid(), coursework_network()(images))
    assert evaluator.image_shape == (3, 64, 64)


def test_a_file_of_another_number_of_classes_is_refused(coursework_file: Path) -> None:
    with pytest.raises(LabError, match="incomplete or of another network"):
        load_evaluator(coursework_file, ClassVocabulary(("a", "b")), CPU)


class Call:
    def __init__(self, victim: str) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.victim, "w")


@pytest.mark.parametrize("as_zip", [True, False])
def test_code_in_the_file_is_never_run(tmp_path: Path, as_zip: bool) -> None:
    path, victim = tmp_path / "checkpoint.pth", tmp_path / "victim"
    torch.save({"model": Call(str(victim))}, path, _use_new_zipfile_serialization=as_zip)
    with pytest.raises(LabError, match="more than tensors and primitives"):
        load_evaluator(path, VOCABULARY, CPU)
    assert not victim.exists()


@pytest.mark.parametrize(("kind", "stem"), [("resnet18", 7), ("resnet18_stride1", 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_resnet_takes_any_channels_and_keeps_its_stem(kind: Any, stem: int, channels: int) -> None:
    network = build_classifier(EvaluatorConfig(kind=kind), channels, 5, seed=0).eval()
    assert network.state_dict()["conv1.weight"].shape == (64, channels, stem, stem)
    assert network(torch.zeros(2, channels, 32, 32)).shape == (2, 5)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures whose class the evaluator beside them reads off their grey level, the last one of a wrong class."""
    root = tmp_path_factory.mktemp("drawn")
    folder = root / "pictures"
    folder.mkdir()
    for number, level in enumerate((0, 128, 255, 0, 128, 255)):
        Image.fromarray(np.full((8, 8), level, dtype=np.uint8)).save(folder / f"{number}.png")
    (root / "objects.json").write_text(json.dumps({"dark": 0, "grey": 1, "bright": 2}))
    names = ["dark", "grey", "bright"]
    (root / "test.json").write_text(json.dumps([[name] for name in [*names, *names[:2], "dark"]]))
    config = EvaluatorConfig(width=4)
    classifier = build_classifier(config, 1, 3, seed=0)
    x = torch.linspace(-1, 1, 3).view(3, 1, 1, 1).expand(-1, 1, 8, 8)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(classifier(x), torch.eye(3))
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature is untyped
        optimizer.step()
    vocabulary = ClassVocabulary(("dark", "grey", "bright"))
    save_evaluator(root / "evaluator.pt", Evaluator(config, (1, 8, 8), vocabulary, classifier.eval(), {}))
    return root


@pytest.fixture
def pictures(drawn: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn, tmp_path / "copy") / "pictures"


def arguments(pictures: Path, *more: str) -> list[str]:
    root = pictures.parent
    files = {"--labels": "test.json", "--weights": "evaluator.pt", "--out": "scores.csv"}
    return ["score", "--images", str(pictures), *(str(part) for k, v in files.items() for part in (k, root / v)), *more]


@pytest.mark.long
def test_a_folder_of_pictures_is_scored_as_a_user_does_it(pictures: Path) -> None:
    done = subprocess.run(command(*arguments(pictures)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    row = pd.read_csv(pictures.parent / "scores.csv").iloc[0]
    assert (row["images"], row["labels"], row["correct_labels"]) == (6, 6, 5)
    assert row["accuracy"] == pytest.approx(5 / 6, abs=1e-6)
    assert row["accuracy_low"] < 5 / 6 < row["accuracy_high"]
    images = pd.read_csv(pictures.parent / "scores_images.csv")
    assert list(images["seen"]) == ["dark", "grey", "bright", "dark", "grey", "bright"]
    assert list(images["correct_labels"]) == [1, 1, 1, 1, 1, 0]
    assert "0.833" in done.stdout


def put_fifo(path: Path) -> None:
    """Put what blocks whoever opens it in the place of a file."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda folder: (folder / "3.png").unlink(), "1 of 6 pictures cannot be scored, the first: 3.png is missing"),
        (lambda folder: (folder / "0.png").write_bytes(b""), "the first: 0.png cannot be read"),
        # Pillow knows EPS too, and would start Ghostscript to draw it.
        (lambda folder: Image.new("L", (8, 8)).save(folder / "1.png", "EPS"), "the first: 1.png cannot be read"),
        (
            lambda folder: Image.fromarray(np.full((8, 8), 300, np.uint16)).save(folder / "4.png"),
            "the first: 4.png has one channel of more than 8 bits",
        ),
        (lambda folder: put_fifo(folder / "5.png"), "the first: 5.png is missing"),
        (
            lambda folder: Image.new("L", (16, 8)).save(folder / "2.png"),
            "the first: 2.png is 16x8 and not 8x8\nallowed are 0.png to 5.png, one a label set, each 8x8",
        ),
    ],
)
def test_pictures_that_cannot_be_scored_are_counted(
    pictures: Path, capsys: pytest.CaptureFixture[str], break_it: Callable[[Path], object], told: str
) -> None:
    break_it(pictures)
    assert main(arguments(pictures)) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.strip().splitlines()) <= 2
    row = pd.read_csv(pictures.parent / "scores.csv").iloc[0]
    assert told.replace("\n", "; ") in row["problem"]
    assert np.isnan(row["accuracy"])
    assert pd.read_csv(pictures.parent / "scores_images.csv").empty


def test_the_vocabulary_must_be_the_evaluators(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures.parent / "objects.json").write_text(json.dumps(["grey", "dark", "bright"]))
    assert main(arguments(pictures)) == 2
    assert "class 0 is 'dark', but objects.json calls it 'grey'" in capsys.readouterr().err


def test_a_table_needs_a_file_s_name(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(pictures), "--out", "."]) == 2
    assert "error: . names no file; add a file's name" in capsys.readouterr().err
