"""`score`: pictures made by any program, judged by the coursework's file or this lab's."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from evaluator.classifiers.networks import build_classifier
from evaluator.classifiers.picture_names import instead
from evaluator.classifiers.weights import Evaluator, save_evaluator
from evaluator.configuration import EvaluatorConfig
from lab.data.labels import ClassVocabulary
from run_experiments import main
from tests.command import command


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
    torch.manual_seed(0)  # of its dropout
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
    # The coursework's folder, whose evaluator.py must not be run.
    (pictures.parent / "evaluator.py").write_text("raise SystemExit('the coursework's evaluator was run')")
    relative = [part.replace(f"{pictures.parent}/", "") for part in arguments(pictures)]
    done = subprocess.run(command(*relative), capture_output=True, text=True, check=False, cwd=pictures.parent)
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
        (
            lambda folder: (folder / "3.png").unlink(),
            "1 of 6 pictures cannot be scored; first problem: 3.png is missing",
        ),
        (lambda folder: (folder / "0.png").write_bytes(b""), "first problem: 0.png cannot be read"),
        # Pillow knows EPS too, and would start Ghostscript to draw it.
        (lambda folder: Image.new("L", (8, 8)).save(folder / "1.png", "EPS"), "first problem: 1.png cannot be read"),
        (
            lambda folder: Image.fromarray(np.full((8, 8), 300, np.uint16)).save(folder / "4.png"),
            "first problem: 4.png has a channel of more than 8 bits",
        ),
        (lambda folder: put_fifo(folder / "5.png"), "first problem: 5.png is missing"),
        (
            lambda folder: Image.new("L", (16, 8)).save(folder / "2.png"),
            "first problem: 2.png is 16x8, not 8x8\nexpected 0.png to 5.png, one per label set, each 8x8",
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


def renamed(change: Callable[[int], str]) -> Callable[[Path], None]:
    """Give every picture of a folder another name."""

    def rename(folder: Path) -> None:
        for number in range(6):
            (folder / f"{number}.png").rename(folder / f"_{number}")
        for number in range(6):
            (folder / f"_{number}").rename(folder / change(number))

    return rename


def put_file(folder: Path) -> None:
    """Put a file in the place of the folder."""
    shutil.rmtree(folder)
    folder.write_bytes(b"PK")


def put_inside(folder: Path) -> None:
    """Put the pictures in a folder of the folder."""
    inside = folder.rename(folder.with_name("test"))
    folder.mkdir()
    inside.rename(folder / "test")


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (
            renamed(lambda number: f"{number:02}.png"),
            "6 of 6 pictures cannot be scored; first problem: 0.png is missing; the folder has 00.png to 05.png; "
            "rename them to 0.png to 5.png",
        ),
        (renamed(lambda number: f"img_{number}.png"), "has img_0.png to img_5.png; rename them to 0.png to 5.png"),
        (renamed(lambda number: f"{number}.PNG"), "has 0.PNG to 5.PNG; rename them to 0.png to 5.png"),
        (
            renamed(lambda number: f"{number + 1}.png"),
            "1 of 6 pictures cannot be scored; first problem: 0.png is missing; the folder has 1.png to 6.png; "
            "rename them to 0.png to 5.png",
        ),
        (renamed(lambda number: f"{number}.jpg"), "the folder has 0.jpg to 5.jpg; expected 0.png to 5.png"),
        (renamed(lambda number: f"{number * 2:03}.png"), "the folder has 6 from 000.png to 010.png; expected"),
        (renamed(lambda number: "abcdef"[number] + ".png"), "has 'a.png', 'b.png', ... (6 in all); expected"),
        (
            lambda folder: (folder / "3.png").rename(folder / "03.png"),
            "3.png is missing; the folder has '03.png'; expected",
        ),
        (lambda folder: (folder / "3.png").rename(folder / "x\x1b9.png"), "the folder has 'x\\x1b9.png'; expected"),
        (
            lambda folder: [shutil.copy(folder / "0.png", folder / f"{number}.png") for number in (6, 7)],
            "more pictures than the 6 label sets: '6.png', '7.png'; expected 0.png to 5.png",
        ),
        (lambda folder: shutil.copy(folder / "0.png", folder / "00.png"), "than the 6 label sets: '00.png'; expected"),
        (
            put_inside,
            "its subfolders are 'test': give those with pictures",
        ),
        (
            lambda folder: (folder / "0.png").write_text("<!DOCTYPE html><title>Sign in</title>"),
            "0.png cannot be read (it is a web page with the title 'Sign in', not the file itself; download it again)",
        ),
        (lambda folder: shutil.rmtree(folder), "no such folder"),
        (put_file, "this is a file, not a folder"),
    ],
)
def test_one_folder_that_cannot_be_scored_costs_the_others_nothing(
    pictures: Path, capsys: pytest.CaptureFixture[str], break_it: Callable[[Path], object], told: str
) -> None:
    first, last = (shutil.copytree(pictures, pictures.with_name(name)) for name in ("first", "last"))
    break_it(pictures)
    assert main(arguments(pictures, "--images", *map(str, (first, pictures, last)))) == 2
    table = pd.read_csv(pictures.parent / "scores.csv")
    assert list(table["folder"]) == [str(folder) for folder in (first, pictures, last)]
    assert told in table["problem"][1]
    assert table["problem"].notna().tolist() == [False, True, False]
    assert table["accuracy"].round(6).fillna(-1).tolist() == [0.833333, -1, 0.833333]
    assert table["images"].fillna(-1).tolist() == [6, -1, 6]
    assert len(pd.read_csv(pictures.parent / "scores_images.csv")) == 12
    output = capsys.readouterr()
    error = output.err[output.err.index("error: ") :].strip()
    scores = pictures.parent / "scores.csv"
    assert error.startswith(f"error: 1 of 3 folders could not be scored; {scores} has the reasons; first problem: ")
    assert f"first problem: {pictures}: " in error
    assert len(error.splitlines()) <= 2
    assert output.out.splitlines()[-1].startswith(f"{pictures}: ")
    assert told in output.out.splitlines()[-1]
    assert [line.split()[:3] for line in output.out.splitlines()[1:3]] == [
        [str(f), "6", "0.833"] for f in (first, last)
    ]


@pytest.mark.long
def test_workers_score_as_one_process_does(pictures: Path) -> None:
    folders = [str(shutil.copytree(pictures, pictures.with_name(f"maker{number}"))) for number in range(5)]
    (Path(folders[2]) / "3.png").unlink()
    written = []
    for workers in ("1", "3"):
        done = subprocess.run(
            command(*arguments(pictures, "--images", *folders, "--workers", workers)),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        files = [pictures.parent / name for name in ("scores.csv", "scores_images.csv")]
        written.append([done.stdout, done.stderr.splitlines()[-1], *(file.read_bytes() for file in files)])
        for file in files:
            file.unlink()
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([f"{number:02}.png" for number in range(32)], ("00.png to 31.png", True)),
        ([f"{number}.png" for number in range(1, 33)], ("1.png to 32.png", True)),
        ([f"{number:02}.png" for number in range(1, 33)], ("01.png to 32.png", True)),
        ([f"{number:02}.png" for number in range(30)], ("00.png to 29.png", False)),
        ([f"{number}.png" for number in range(31)], ("", False)),
        ([f"seed_1_{number}.png" for number in range(32)] + ["grid.png"], ("seed_1_0.png to seed_1_31.png", True)),
    ],
)
def test_numbered_names_are_reported_as_they_are(names: list[str], told: tuple[str, bool]) -> None:
    assert instead(names, 32) == told


def test_pictures_of_other_names_are_no_matter(pictures: Path) -> None:
    # As `sample` writes them beside the pictures.
    for name in ("grid.png", "strip.png", ".hidden.png"):
        shutil.copy(pictures / "0.png", pictures / name)
    assert main(arguments(pictures)) == 0
    assert pd.read_csv(pictures.parent / "scores.csv")["problem"].isna().all()


def test_folders_none_of_which_can_be_scored_have_their_table(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "3.png").unlink()
    assert main(arguments(pictures, "--images", str(pictures), "nowhere")) == 2
    table = pd.read_csv(pictures.parent / "scores.csv")
    assert table["accuracy"].isna().all()
    output = capsys.readouterr()
    assert "error: 2 of 2 folders could not be scored" in output.err
    assert output.out.splitlines() == [f"{pictures}: {table['problem'][0]}", "nowhere: no such folder"]


def test_many_folders_have_a_progress_bar_and_one_has_none(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(pictures)) == 0
    assert capsys.readouterr().err == ""
    assert main(arguments(pictures, "--images", str(pictures), str(pictures))) == 0
    assert "scoring: 100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("test.json", '[["dark"], ["dim"]]', "label set 2 of 2: unknown class 'dim'"),
        ("test.json", None, "test.json: no such label-set file"),
        ("objects.json", "{", "not JSON"),
        ("evaluator.pt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
    ],
)
def test_what_is_wrong_for_all_folders_is_an_error_before_any(
    pictures: Path, capsys: pytest.CaptureFixture[str], file: str, content: str | None, told: str
) -> None:
    path = pictures.parent / file
    path.unlink() if content is None else path.write_text(content)
    assert main(arguments(pictures, "--images", str(pictures), "nowhere")) == 2
    output = capsys.readouterr()
    assert told in output.err
    assert "scoring" not in output.err
    assert output.out == ""
    assert not (pictures.parent / "scores.csv").exists()


def test_the_table_s_place_is_tried_before_any_folder(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (pictures.parent / "objects.json").read_bytes()
    for out, told in (
        (pictures.parent, f"{pictures.parent} is a folder; add a file name"),
        (pictures.parent / "objects.json" / "scores.csv", "objects.json is a file, but must be a folder"),
    ):
        assert main(arguments(pictures, "--out", str(out), "--images", str(pictures), "nowhere")) == 2
        error = capsys.readouterr().err
        assert told in error or "cannot write (File exists)" in error
        assert "nowhere" not in error
    assert (pictures.parent / "objects.json").read_bytes() == before


def test_no_folder_at_all_is_a_mistake(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A pattern that the shell made nothing of.
    rest = arguments(pictures)[3:]
    assert main(["score", "--images", *rest]) == 2
    assert "--images is empty; give at least one folder" in capsys.readouterr().err


def test_an_evaluator_of_this_lab_needs_no_vocabulary(pictures: Path) -> None:
    (pictures.parent / "objects.json").unlink()
    assert main(arguments(pictures)) == 0
    assert pd.read_csv(pictures.parent / "scores.csv")["correct_labels"].tolist() == [5]


def test_the_coursework_s_needs_one(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures.parent / "objects.json").unlink()
    weights = build_classifier(EvaluatorConfig(kind="resnet18"), 3, 3, seed=0).state_dict()
    torch.save({"model": weights}, path := pictures.parent / "checkpoint.pth")
    assert main(arguments(pictures, "--weights", str(path))) == 2
    told = (
        "does not name its classes\n"
        "put the coursework's objects.json beside the label-set file, or give its path with --objects"
    )
    assert told in capsys.readouterr().err


def test_an_interruption_writes_nothing(
    pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluator.reporting.submissions.numbered_pictures", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(arguments(pictures))
    assert ended.value.code == 130
    assert "scores.csv was not written" in capsys.readouterr().err
    assert not (pictures.parent / "scores.csv").exists()


def test_the_vocabulary_must_be_the_evaluators(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures.parent / "objects.json").write_text(json.dumps(["grey", "dark", "bright"]))
    assert main(arguments(pictures)) == 2
    assert "class 0 is 'dark', but objects.json calls it 'grey'" in capsys.readouterr().err


def test_a_table_needs_a_file_s_name(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(pictures), "--out", "."]) == 2
    assert "error: . has no file name; add one" in capsys.readouterr().err
