"""Hostile input: whatever is in a file, what reads it ends in a result or in one clear error, and changes nothing.

More than 10,000 cases in all; each test says how many of them are its own. No CSV file is ever read by the lab.
"""

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from experiments.configuration import Experiment
from experiments.reporting import refuse_other_report
from lab.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from lab.configuration import DenoiserConfig, SamplerConfig, ScheduleConfig
from lab.errors import LabError
from lab.files import load_tensors
from lab.image_folders import scene_folder
from lab.labels import ClassVocabulary, load_image_labels, load_label_sets, load_vocabulary
from lab.networks import build_denoiser
from lab.sweep import CellResult, SweepCell, earlier_results, load_result, save_result
from tests.command import run

pytestmark = pytest.mark.long

VOCABULARY = ClassVocabulary(("cube", "sphere", "cone"))
LABEL_SETS = b'[["cube"], ["sphere", "cone"], ["cone"]]'
OBJECTS = b'{"cube": 0, "sphere": 1, "cone": 2}'
IMAGE_LABELS = b'{"a_0.png": ["cube"], "a_1.png": ["cube", "cone"]}'

names = st.sampled_from(["cube", "sphere", "cone", "Cube", "", " ", "a_0.png", "../a", "\x00", "$x$", "|", "\\", "😀"])
primitives = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | names
values = st.recursive(
    primitives,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | names, inner, max_size=4),
    max_leaves=12,
)


def cases(count: int) -> Callable[[Any], Any]:
    """Run a test on so many cases, the same ones every time."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def spoilt(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw bytes that are these, cut, flipped, mixed, repeated or replaced."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["cut", "flip", "insert", "zero", "double", "replace"])):
            case "cut":
                del content[place:]
            case "flip" if content:
                content[place] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                content[place:place] = draw(st.binary(max_size=6))
            case "zero":
                content[place : place + 8] = bytes(len(content[place : place + 8]))
            case "double":
                content[place:place] = content[place : place + 20]
            case "replace":
                content[:] = draw(st.binary(max_size=40))
            case _:
                pass
    return bytes(content)


def as_file(whole: bytes) -> st.SearchStrategy[bytes]:
    """Files that are a spoilt one of these, or any JSON, or JSON that is nested too deeply."""
    deep = st.integers(1, 2000).map(lambda depth: b"[" * depth + b"]" * depth)
    deep_objects = st.integers(1, 2000).map(lambda depth: b'{"a":' * depth + b"1" + b"}" * depth)
    return spoilt(whole) | values.map(lambda value: json.dumps(value).encode()) | deep | deep_objects


def ended_well(call: Callable[[], object], path: Path) -> bool:
    """Call, and tell whether it had a result; where it had none, it told one error, and the file is as it was."""
    before = path.read_bytes()
    try:
        call()
        return True
    except LabError as error:
        told = str(error)
        assert told.strip()
        assert len(told.splitlines()) <= 3, told
        return False
    finally:
        assert path.read_bytes() == before


@cases(2500)
@given(content=as_file(LABEL_SETS))
def test_label_set_files(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "test.json"
    path.write_bytes(content)
    ended_well(lambda: VOCABULARY.conditions(load_label_sets(path, VOCABULARY)), path)


@cases(2500)
@given(content=as_file(OBJECTS))
def test_vocabularies(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "objects.json"
    path.write_bytes(content)
    ended_well(lambda: load_vocabulary(path), path)


@cases(1500)
@given(content=as_file(IMAGE_LABELS))
def test_image_labels(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "train.json"
    path.write_bytes(content)
    ended_well(lambda: load_image_labels(path, VOCABULARY), path)


@cases(1000)
@given(content=as_file(json.dumps({"networks": Experiment().generator_settings()}).encode()))
def test_configurations_of_reports(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    root = tmp_path_factory.getbasetemp()
    path = root / "reports" / "digits" / "config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    ended_well(lambda: refuse_other_report(Experiment(root=root)), path)


@cases(150)
@given(
    field=st.sampled_from(["name", "seed", "device", "training.epochs", "sweep.guidance-weights", "data.label-sets"]),
    value=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12) | names,
)
def test_values_on_the_command_line(tmp_path_factory: pytest.TempPathFactory, field: str, value: str) -> None:
    # The folder is empty, so that nothing can be run whatever the value is.
    root = tmp_path_factory.getbasetemp() / "nothing"
    root.mkdir(exist_ok=True)
    try:
        status: object = run(root, "digits", f"--{field}", value.replace("\x00", ""))
    except SystemExit as ended:  # tyro's own
        status = ended.code
    assert status == 2
    assert not list(root.iterdir())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config, schedule = DenoiserConfig(n_feat=8), ScheduleConfig(timesteps=20)
    network = build_denoiser(config, (1, 8, 8), len(VOCABULARY), schedule, 0)
    path = tmp_path_factory.mktemp("checkpoint") / "epoch0001.pt"
    weights = network.state_dict()
    save_checkpoint(path, Checkpoint(config, schedule, (1, 8, 8), VOCABULARY, 1, 1, {"seed": 0}, weights))
    return path


@cases(1200)
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


FIELDS = [
    "format", "denoiser", "schedule", "image_shape", "vocabulary", "epoch", "step", "settings", "weights",
    "denoiser.n_feat", "denoiser.widths", "denoiser.attention",
    "schedule.timesteps", "schedule.kind", "schedule.beta_end",
]  # fmt: skip


@cases(800)
@given(field=st.sampled_from(FIELDS), value=values, gone=st.booleans())
def test_checkpoints_of_another_content(checkpoint: Path, field: str, value: object, gone: bool) -> None:
    content = load_tensors(checkpoint, "checkpoint", "")
    *outer, last = field.split(".")
    inside = content[outer[0]] if outer else content
    inside.pop(last) if gone else inside.update({last: value})
    path = checkpoint.with_name("other.pt")
    torch.save(content, path)
    ended_well(lambda: load_checkpoint(path, VOCABULARY).network(torch.device("cpu")), path)


class Call:
    """What pickle turns into a call when it is loaded."""

    def __init__(self, function: Callable[..., object], argument: str) -> None:
        self.function, self.argument = function, argument

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return self.function, (self.argument,)


@cases(250)
@given(place=st.sampled_from(FIELDS[:9]), protocol=st.integers(0, 5), zipped=st.booleans(), seed=st.integers(0, 99))
def test_calls_inside_of_checkpoints(checkpoint: Path, place: str, protocol: int, zipped: bool, seed: int) -> None:
    trace = checkpoint.with_name("was-run")
    call = Call(
        [os.mkdir, os.system, eval][seed % 3], [str(trace), f"mkdir {trace}", f"open({str(trace)!r}, 'w')"][seed % 3]
    )
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
    sampler = SamplerConfig(sampling_steps=2)
    cell = SweepCell("epoch0001", 1, 1, "a", "b", "test", (("cube",), ("cone",)), "plain", {}, 1.0, sampler, 1)
    pixels, logits = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.randn(2, 3)
    save_result(folder, CellResult(cell, pixels, logits, 2, 1.0, 0.0, "cpu", "float32"))
    return folder, cell


@cases(700)
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
    Image.fromarray(np.arange(side * side, dtype=np.uint8).reshape(side, side)).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@cases(500)
@given(
    content=st.sampled_from(["RGB", "RGBA", "L", "LA", "P", "1", "I", "I;16"]).flatmap(lambda mode: spoilt(png(mode))),
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
    had_result = ended_well(lambda: scene_folder(folder, 4, root / "cache"), folder / "a_0.png")
    assert not (had_result and name in ("../outside.png", "/etc/hostname", "link.png"))
