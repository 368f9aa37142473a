"""The command `sample`: pictures of a checkpoint, and the sweep's own where it asks for the same."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import make_grid

import run_experiments
from evaluator.classifiers.pictures import numbered_pictures
from experiments.submissions import Scoring, score_submissions
from lab.configuration.diffusion import CosineScheduleConfig, LinearScheduleConfig
from lab.configuration.networks import ContextUnetConfig, UNet2DConfig
from lab.data.labels import ClassVocabulary
from lab.machine import memory
from lab.networks.registry import build_denoiser
from lab.pipelines import export_pipeline
from lab.sweep.cells import StoredResult, load_result, read_cell
from lab.sweep.run import Engine, run_sweep
from lab.training.checkpoints import Checkpoint, read_checkpoint, save_checkpoint
from lab.types import PixelImages
from tests.classes import some_classes
from tests.command import CPU, PROJECT, run

COLOURS = ClassVocabulary(("red", "green", "dark, blue"))


def checkpoint_of(root: Path) -> Path:
    return root / "checkpoints" / "digits" / "epoch0002.pt"


def label_file(root: Path) -> str:
    return str(root / "data" / "digits" / "test.json")


def sample(checkpoint: Path, out: Path, *arguments: str) -> int:
    fixed = ("--device", "cpu", "--sampler.sampling-steps", "3", "--checkpoint", str(checkpoint), "--out", str(out))
    return run_experiments.main(["sample", *fixed, *arguments])


def pixels_of(folder: Path, count: int, channels: int = 1) -> PixelImages:
    return numbered_pictures(folder, count, (channels, 8, 8))


def finished_cell(root: Path, weight: str) -> StoredResult:
    """Return the finished cell of the last checkpoint on test.json at a weight."""
    folder = checkpoint_of(root).parent / "cells"
    (path,) = folder.glob(f"epoch0002-test-w{weight}-*")
    told = json.loads(str(np.load(path)["told"]))["cell"]
    result = load_result(folder, read_cell(told))
    assert result is not None
    return result


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A checkpoint of RGB images that lies alone in a folder."""
    config, schedule = ContextUnetConfig(n_feat=8), CosineScheduleConfig(timesteps=20)
    weights = build_denoiser(config, (3, 8, 8), some_classes(3), schedule, seed=1).state_dict()
    path = tmp_path / "alone" / "epoch0009.pt"
    save_checkpoint(path, Checkpoint(config, schedule, (3, 8, 8), COLOURS, 9, 90, {}, weights))
    return path


@pytest.mark.parametrize("weight", ["-1", "0", "2"])
def test_the_pictures_are_those_of_the_finished_sweep(finished: Path, tmp_path: Path, weight: str) -> None:
    cell = finished_cell(finished, weight)
    arguments = ["--label-sets", label_file(finished), "--guidance-weight", weight]
    assert sample(checkpoint_of(finished), tmp_path / "out", *arguments, "--precision", cell.cell.precision) == 0
    # The sweep's batches hold the images of both files: in others the last bits are rounded differently.
    allowed = 1 if cell.cell.precision == "float32" else 32
    assert int((pixels_of(tmp_path / "out", 100).int() - cell.pixels.int()).abs().max()) <= allowed


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
def test_in_the_same_batches_they_are_the_sweeps_bits(finished: Path, tmp_path: Path, arithmetic: str) -> None:
    checkpoint = checkpoint_of(finished)
    cell = replace(finished_cell(finished, "2").cell, precision=arithmetic, seeds=2)
    engine = Engine(lambda pixels: torch.zeros(len(pixels), 10), CPU, compiled=False, batch_size=50)
    vocabulary = read_checkpoint(checkpoint).vocabulary
    (swept,) = run_sweep([cell], checkpoint.parent, vocabulary, engine, tmp_path / "cells")
    for seed in (0, 1):
        out = tmp_path / f"seed{seed}"
        arguments = ["--guidance-weight", "2", "--precision", arithmetic, "--batch-size", "50", "--seed", str(seed)]
        assert sample(checkpoint, out, "--label-sets", label_file(finished), *arguments) == 0
        assert torch.equal(pixels_of(out, 100), swept.pixels[100 * seed : 100 * (seed + 1)])


def test_their_score_is_the_sweeps_accuracy(finished: Path, tmp_path: Path) -> None:
    cell = finished_cell(finished, "2")
    arguments = ["--label-sets", label_file(finished), "--guidance-weight", "2", "--precision", cell.cell.precision]
    assert sample(checkpoint_of(finished), tmp_path / "out", *arguments) == 0
    evaluator = checkpoint_of(finished).with_name("evaluator.pt")
    score_submissions(Scoring((tmp_path / "out",), Path(label_file(finished)), evaluator, tmp_path / "scores.csv"))
    scores = np.genfromtxt(tmp_path / "scores.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    right = cell.logits.argmax(dim=1) == torch.tensor([int(name) for (name,) in cell.cell.asked])
    assert float(scores["accuracy"]) == pytest.approx(right.float().mean().item(), abs=0.02)


def test_the_grid_and_the_strip_are_torchvisions(colours: Path, tmp_path: Path) -> None:
    sets = ["red", "green, red", "dark, blue"] * 3
    arguments = ["--ask", *sets, "--strip", "3", "--guidance-weight", "1"]
    assert sample(colours, tmp_path / "out", *arguments) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"{number}.png" for number in range(9)), "grid.png", "strip.png", "ask.json",
    }  # fmt: skip
    pixels = pixels_of(tmp_path / "out", 9, channels=3)
    with Image.open(tmp_path / "out" / "grid.png") as grid:
        assert (grid.mode, grid.size) == ("RGB", (8 * 10 + 2, 2 * 10 + 2))
        expected = make_grid(pixels, nrow=8, padding=2)
        assert torch.equal(torch.from_numpy(np.array(grid)).permute(2, 0, 1), expected)
    with Image.open(tmp_path / "out" / "strip.png") as strip:
        assert strip.size == (3 * 10 + 2, 9 * 10 + 2)
        rows = torch.from_numpy(np.array(strip)).permute(2, 0, 1)
    # The last moment is the finished image, and the first one noise.
    last = torch.stack([rows[:, 10 * row + 2 : 10 * row + 10, 22:30] for row in range(9)])
    first = torch.stack([rows[:, 10 * row + 2 : 10 * row + 10, 2:10] for row in range(9)])
    assert torch.equal(last, pixels)
    assert not torch.equal(first, last)


def test_typed_label_sets_are_those_of_a_file(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint is enough: no dataset, evaluator or objects.json lies anywhere near."""
    assert sample(colours, tmp_path / "typed", "--ask", "red", " green ,red", "dark, blue") == 0
    assert capsys.readouterr().out == (
        f"{tmp_path / 'typed'}: 0.png to 2.png, grid.png, ask.json (3 images of 8x8, seed 0, w = 0)\n"
    )
    written = tmp_path / "typed" / "ask.json"
    assert json.loads(written.read_text()) == [["red"], ["green", "red"], ["dark, blue"]]
    assert sample(colours, tmp_path / "again", "--label-sets", str(written)) == 0
    typed, again = (pixels_of(tmp_path / name, 3, channels=3) for name in ("typed", "again"))
    assert torch.equal(typed, again)
    # Another seed is other noise, and so is a file of another name.
    assert sample(colours, tmp_path / "seed", "--label-sets", str(written), "--seed", "1") == 0
    written.rename(renamed := tmp_path / "other.json")
    assert sample(colours, tmp_path / "other", "--label-sets", str(renamed)) == 0
    for name in ("seed", "other"):
        assert not torch.equal(pixels_of(tmp_path / name, 3, channels=3), typed)


def test_no_batch_is_larger_than_what_fits(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sample(colours, tmp_path / "one", "--images", "5") == 0
    monkeypatch.setattr(memory, "images_that_fit", lambda *_: 2)
    assert sample(colours, tmp_path / "many", "--images", "5") == 0
    one, many = (pixels_of(tmp_path / name, 5, channels=3).int() for name in ("one", "many"))
    assert int((one - many).abs().max()) <= 1


def test_autoguidance_by_a_weaker_checkpoint(finished: Path, tmp_path: Path) -> None:
    weak = checkpoint_of(finished).with_name("epoch0001.pt")
    auto = ["--guidance.method", "auto", "--weak-checkpoint", str(weak), "--guidance-weight"]
    for name, arguments in (("plain0", ()), ("auto0", (*auto, "0")), ("auto2", (*auto, "2"))):
        assert sample(checkpoint_of(finished), tmp_path / name, "--ask", "3", "5", *arguments) == 0
    plain, neutral, guided = (pixels_of(tmp_path / name, 2) for name in ("plain0", "auto0", "auto2"))
    assert torch.equal(plain, neutral)
    assert not torch.equal(guided, plain)


def test_an_imported_pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, schedule = UNet2DConfig(conditional=False, n_feat=32, widths=(1, 1, 2)), LinearScheduleConfig()
    weights = build_denoiser(config, (1, 8, 8), some_classes(10), schedule, seed=3).state_dict()
    digits = ClassVocabulary(tuple("0123456789"))
    export_pipeline(Checkpoint(config, schedule, (1, 8, 8), digits, 2, 20, {}, weights), tmp_path / "pipeline")
    vocabulary = str(PROJECT / "data" / "digits" / "objects.json")
    arguments = ["--pipeline", str(tmp_path / "pipeline"), "--name", "theirs", "--vocabulary", vocabulary]
    assert run(tmp_path, "import-pipeline", *arguments) == 0
    imported = tmp_path / "checkpoints" / "theirs" / "epoch0000.pt"
    capsys.readouterr()
    assert sample(imported, tmp_path / "out", "--images", "1") == 0
    told = capsys.readouterr()
    assert told.out == f"{tmp_path / 'out'}: 0.png, grid.png (1 image of 8x8, seed 0, w = 0)\n"
    assert "warning" not in told.err
    assert sample(imported, tmp_path / "asked", "--ask", "7") == 0
    assert "warning: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "arguments"),
    [
        ("exactly one of --label-sets, --ask, --images is needed; given: none", ()),
        ("is needed; given: --ask, --images", ("--ask", "red", "--images", "2")),
        ("--ask 'rde': unknown class 'rde'; did you mean 'red'?", ("--ask", "green", "rde")),
        ("--ask 'red,red': class 'red' occurs twice", ("--ask", "red,red")),
        ("--ask '': unknown class ''", ("--ask", "")),
        ("nothing.json: no such label-set file", ("--label-sets", "nothing.json")),
        ("--guidance-weight is 2, but the images of --images", ("--images", "2", "--guidance-weight", "2")),
        ("is plain rescale; sample takes one", ("--ask", "red", "--guidance.method", "plain", "rescale")),
        ("auto and --weak-checkpoint belong together", ("--ask", "red", "--guidance.method", "auto")),
        ("--strip is 5; it must be from 2 to 4", ("--ask", "red", "--strip", "5")),
        ("use at most as many as timesteps, 20", ("--ask", "red", "--sampler.sampling-steps", "21")),
        ("plus_plus needs deterministic ddim", ("--ask", "red", "--guidance.method", "plus_plus")),
        ("unknown class 'blu'", ("--ask", "red", "--guidance.method", "composed:avoid=blu")),
        ("--seed is -1", ("--ask", "red", "--seed", "-1")),
    ],
)  # fmt: skip
def test_mistakes(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], told: str, arguments: tuple[str, ...]
) -> None:
    assert sample(colours, tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.strip().splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"alone"}


def test_a_checkpoint_that_is_not_there_and_one_that_guides_itself(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample(colours.with_name("epoch0008.pt"), tmp_path / "out", "--ask", "red") == 2
    assert "epoch0008.pt: no such checkpoint; did you mean 'epoch0009.pt'?" in capsys.readouterr().err
    auto = ["--guidance.method", "auto", "--weak-checkpoint"]
    (copy := tmp_path / "copy.pt").write_bytes(colours.read_bytes())
    assert sample(colours, tmp_path / "out", "--ask", "red", *auto, str(copy)) == 2
    assert "copy.pt is --checkpoint itself, which guides nowhere" in capsys.readouterr().err
    other = read_checkpoint(colours)
    save_checkpoint(copy, replace(other, schedule=CosineScheduleConfig(timesteps=30)))
    assert sample(colours, tmp_path / "out", "--ask", "red", *auto, str(copy)) == 2
    assert "has another noise schedule or image size than" in capsys.readouterr().err


def test_a_folder_with_anything_in_it_is_left_as_it_is(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (out := tmp_path / "out").mkdir()
    assert sample(colours, out, "--ask", "red") == 0  # an empty one is taken
    before = {path: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    assert sample(colours, out, "--ask", "green") == 2
    assert (
        f"error: {out} exists and is not an empty folder; choose a new folder or empty this one"
        in capsys.readouterr().err
    )
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert sample(colours, out / "0.png", "--ask", "green") == 2
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    assert sample(colours, Path(), "--ask", "green") == 2
    assert "choose a new folder" in capsys.readouterr().err


def test_what_is_cut_off_leaves_nothing(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluator.reporting.picture_folders.write_pictures", interrupt)
    with pytest.raises(SystemExit, match="130"):
        sample(colours, tmp_path / "out", "--ask", "red")
    assert f"interrupted; {tmp_path / 'out'} was not written" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"alone"}


def test_help_imports_no_torch() -> None:
    code = (
        "import sys, run_experiments\n"
        "try:\n    run_experiments.main(['sample', '--help'])\n"
        "finally:\n    print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "False"
    assert "--label-sets" in done.stdout
