"""Hostile checkpoints, sweep cells and images; see test_hostile_text.py."""

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from functools import reduce
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evaluator.classifiers.networks import build_classifier
from evaluator.classifiers.pictures import numbered_pictures
from evaluator.classifiers.weights import Evaluator, load_evaluator, save_evaluator
from evaluator.configuration import EvaluatorConfig
from lab.configuration.diffusion import BetasScheduleConfig, CosineScheduleConfig
from lab.configuration.networks import ContextUnetConfig, ImportedUNet2DConfig
from lab.configuration.training import TrainingConfig
from lab.data.image_folders import scene_folder
from lab.data.labelled_images import one_label_images
from lab.machine.computation import Computation
from lab.machine.files import LEGACY_MAGIC, load_tensors, save_tensors
from lab.networks.registry import build_denoiser
from lab.sweep.cells import CellResult, SweepCell, earlier_results, load_result, save_result
from lab.training.checkpoints import FORMAT, Checkpoint, load_checkpoint, save_checkpoint
from lab.training.recipe import Recipe
from lab.training.runs import TrainingRun
from lab.training.trainer import Trainer
from tests.cells import a_cell
from tests.hostile import (
    OBJECTS,
    VOCABULARY,
    cases,
    ended_well,
    spoilt,
    values,
)

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config, schedule = ContextUnetConfig(n_feat=8), CosineScheduleConfig(timesteps=20)
    network = build_denoiser(config, (1, 8, 8), VOCABULARY.names, schedule, 0)
    path = tmp_path_factory.mktemp("checkpoint") / "epoch0001.pt"
    weights = network.state_dict()
    save_checkpoint(path, Checkpoint(config, schedule, (1, 8, 8), VOCABULARY, 1, 1, {"seed": 0}, weights))
    return path


@cases(500)
@given(seed=st.integers(0, 2**32))
def test_damaged_checkpoints(checkpoint: Path, seed: int) -> None:
    whole, draw = checkpoint.read_bytes(), random.Random(seed)
    content = bytearray(whole)
    match draw.randrange(4):
        case 0:
            del content[draw.randrange(len(content)) :]
        case 1:
            content += draw.randbytes(draw.randrange(1, 100))
        case 2:
            begin = draw.randrange(len(content))
            content[begin : begin + 64] = draw.randbytes(len(content[begin : begin + 64]))
        case _:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path = checkpoint.with_name("damaged.pt")
    path.write_bytes(content)
    found: list[Checkpoint] = []
    if ended_well(lambda: found.append(load_checkpoint(path, VOCABULARY)), path):
        # A bit of the zip's own book-keeping that nothing reads; never a different network.
        expected = load_checkpoint(checkpoint, VOCABULARY)
        for name, tensor in expected.weights.items():
            assert torch.equal(found[0].weights[name], tensor)


@cases(300)
@given(seed=st.integers(0, 2**32))
def test_damaged_files_of_old_torch(checkpoint: Path, seed: int) -> None:
    path, draw = checkpoint.with_name("legacy.pth"), random.Random(seed)
    torch.save({"model": {"weight": torch.zeros(2, 3)}, "told": ["a"]}, path, _use_new_zipfile_serialization=False)
    content = bytearray(path.read_bytes())
    for _ in range(draw.randrange(1, 4)):
        if len(content) == len(LEGACY_MAGIC):
            break  # nothing is left to damage
        if draw.randrange(2):
            content[draw.randrange(len(LEGACY_MAGIC), len(content))] = draw.randrange(256)
        else:
            del content[draw.randrange(len(LEGACY_MAGIC), len(content)) :]
            content += draw.randbytes(draw.randrange(3))
    path.write_bytes(content)
    ended_well(lambda: load_tensors(path, "evaluator", ""), path)
    ended_well(lambda: load_evaluator(path, VOCABULARY, torch.device("cpu")), path)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[[], TrainingRun]]:
    """A training that was cut off after its first epoch of three, and the call that opens it again."""
    folder = tmp_path_factory.mktemp("training")
    images = one_label_images(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4) % 3, VOCABULARY)
    config = TrainingConfig(epochs=3, batch_size=4, checkpoints=1)
    recipe = Recipe(ContextUnetConfig(n_feat=8), CosineScheduleConfig(timesteps=20), config)

    def opened() -> TrainingRun:
        return TrainingRun(folder, images, recipe, {"seed": 0, "training": config}, Computation())

    trainer = Trainer(recipe, images)
    next(trainer.steps())
    content = {"format": FORMAT, "settings": opened().untrained.settings, "trainer": trainer.state_dict()}
    save_tensors(folder / "whole", content)
    return folder / "training.pt", opened


@cases(300)
@given(
    field=st.sampled_from(["format", "settings", "trainer", *(f"trainer.{name}" for name in (
        "step", "log", "denoiser", "ema", "optimizers", "log.rows", "log.images", "denoiser.initial"
    ))]),
    value=values,
    gone=st.booleans(),
)  # fmt: skip
def test_training_states_of_another_content(
    state: tuple[Path, Callable[[], TrainingRun]], field: str, value: object, gone: bool
) -> None:
    path, opened = state
    content = load_tensors(path.with_name("whole"), "training state", "")
    *outer, last = field.split(".")
    inside = reduce(lambda folder, name: folder[name], outer, content)
    inside.pop(last, None) if gone else inside.update({last: value})
    torch.save(content, path)
    ended_well(lambda: next(opened().steps()), path)


@cases(300)
@given(field=st.sampled_from(["format", "config", "image_shape", "vocabulary", "settings", "weights"]), value=values)
def test_evaluators_of_another_content(tmp_path_factory: pytest.TempPathFactory, field: str, value: object) -> None:
    config = EvaluatorConfig(width=4)
    classifier = build_classifier(config, 1, len(VOCABULARY), seed=0)
    path = tmp_path_factory.getbasetemp() / "evaluator.pt"
    save_evaluator(path, Evaluator(config, (1, 8, 8), VOCABULARY, classifier, {}))
    torch.save(load_tensors(path, "evaluator", "") | {field: value}, path)
    ended_well(lambda: load_evaluator(path, VOCABULARY, torch.device("cpu")), path)


FIELDS = [
    "format", "denoiser", "schedule", "image_shape", "vocabulary", "epoch", "step", "settings", "weights",
    "denoiser.n_feat", "denoiser.widths", "denoiser.kind", "denoiser.attention",
    "schedule.timesteps", "schedule.kind", "schedule.zero_terminal",
]  # fmt: skip


@cases(150)
@given(field=st.sampled_from(FIELDS), value=values, gone=st.booleans())
def test_checkpoints_of_another_content(checkpoint: Path, field: str, value: object, gone: bool) -> None:
    content = load_tensors(checkpoint, "checkpoint", "")
    *outer, last = field.split(".")
    inside = content[outer[0]] if outer else content
    inside.pop(last) if gone else inside.update({last: value})
    path = checkpoint.with_name("other.pt")
    torch.save(content, path)
    ended_well(lambda: load_checkpoint(path, VOCABULARY).network(torch.device("cpu")), path)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as `import-pipeline` writes it, of a class-conditional network and a list of betas."""
    settings = {
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "block_out_channels": [8, 16],
        "down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2, "norm_num_groups": 4,
        "add_attention": False, "num_class_embeds": len(VOCABULARY) + 1,
    }  # fmt: skip
    config = ImportedUNet2DConfig(unet2d=settings, null_condition=True)
    schedule = BetasScheduleConfig(betas=(0.1, 0.2, 0.3))
    weights = build_denoiser(config, (1, 8, 8), VOCABULARY.names, schedule, 0).state_dict()
    path = tmp_path_factory.mktemp("imported") / "epoch0000.pt"
    save_checkpoint(path, Checkpoint(config, schedule, (1, 8, 8), VOCABULARY, 0, 0, {}, weights))
    load_checkpoint(path, VOCABULARY)
    return path


@cases(100)
@given(
    field=st.sampled_from([
        "denoiser.kind", "denoiser.unet2d", "denoiser.null_condition", "denoiser.prediction", "schedule.betas",
        *(f"denoiser.unet2d.{name}" for name in ("in_channels", "block_out_channels", "num_class_embeds", "act_fn")),
    ]),
    value=values,
    gone=st.booleans(),
)  # fmt: skip
def test_imported_checkpoints_of_another_content(imported: Path, field: str, value: object, gone: bool) -> None:
    content = load_tensors(imported, "checkpoint", "")
    *outer, last = field.split(".")
    inside = reduce(lambda folder, name: folder[name], outer, content)
    inside.pop(last, None) if gone else inside.update({last: value})
    path = imported.with_name("other.pt")
    torch.save(content, path)
    ended_well(lambda: load_checkpoint(path, VOCABULARY).network(torch.device("cpu")), path)


class Call:
    """What pickle turns into a call when it is loaded."""

    def __init__(self, function: Callable[..., object], argument: str) -> None:
        self.function, self.argument = function, argument

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return self.function, (self.argument,)


@cases(100)
@given(place=st.sampled_from(FIELDS[:9]), protocol=st.integers(0, 5), zipped=st.booleans(), seed=st.integers(0, 99))
def test_calls_inside_of_checkpoints(checkpoint: Path, place: str, protocol: int, zipped: bool, seed: int) -> None:
    trace = checkpoint.with_name("was-run")
    calls: list[tuple[Callable[..., object], str]] = [
        (os.mkdir, str(trace)),
        (os.system, f"mkdir {trace}"),
        (eval, f"open({str(trace)!r}, 'w')"),
    ]
    call = Call(*calls[seed % 3])
    content = load_tensors(checkpoint, "checkpoint", "") | {place: call}
    path = checkpoint.with_name("call.pt")
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content if seed % 2 else call, protocol=protocol))
    assert not ended_well(lambda: load_checkpoint(path, VOCABULARY), path)
    assert not trace.exists()


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SweepCell]:
    folder = tmp_path_factory.mktemp("cells")
    cell = a_cell()
    pixels, logits = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.randn(2, 3)
    save_result(
        folder,
        CellResult(
            cell=cell,
            pixels=pixels,
            logits=logits,
            network_evaluations=2,
            seconds=1.0,
            warm_up_seconds=0.0,
            device="cpu",
        ),
    )
    return folder, cell


@cases(1000)
@given(data=st.data())
def test_damaged_cells(cell: tuple[Path, SweepCell], data: st.DataObject) -> None:
    folder, of = cell
    whole = next(folder.glob("*.npz")).read_bytes()
    other = folder.with_name("other-cells")
    other.mkdir(exist_ok=True)
    path = other / f"{of.key}.npz"
    path.write_bytes(data.draw(spoilt(whole)))
    ended_well(lambda: load_result(other, of), path)
    path.rename(other / "else.npz")
    ended_well(lambda: earlier_results(other, [of]), other / "else.npz")
    (other / "else.npz").unlink()


def png(mode: str, side: int = 6) -> bytes:
    buffer = BytesIO()
    pixels = np.arange(side * side, dtype=np.uint8).reshape(side, side)
    image = Image.fromarray(pixels.astype(np.uint16)) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
    image.save(buffer, "PNG")
    return buffer.getvalue()


@cases(400)
@given(
    content=st.sampled_from(["RGB", "RGBA", "L", "LA", "P", "1", "I;16"]).flatmap(lambda mode: spoilt(png(mode))),
    name=st.sampled_from(["a_0.png", "b.jpg", "sub/a.png", "../outside.png", "/etc/hostname", "link.png", "a_0.PNG "]),
)
def test_image_folders(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    root = tmp_path_factory.getbasetemp() / "images"
    shutil.rmtree(root, ignore_errors=True)
    folder = root / "scenes"
    (folder / "sub").mkdir(parents=True)
    (folder / "objects.json").write_bytes(OBJECTS)
    (folder / "train.json").write_text(json.dumps({name: ["cube"]}), encoding="utf-8")
    for inside in ("a_0.png", "b.jpg", "sub/a.png"):
        (folder / inside).write_bytes(content)
    (outside := root / "outside.png").write_bytes(png("RGB"))
    (folder / "link.png").symlink_to(outside)
    (folder / "0.png").write_bytes(content)
    ended_well(lambda: numbered_pictures(folder, 1, (3, 6, 6)), folder / "0.png")
    had_result = ended_well(lambda: scene_folder(folder, 4, root / "cache"), folder / "a_0.png")
    assert not (had_result and name in ("../outside.png", "/etc/hostname", "link.png"))
