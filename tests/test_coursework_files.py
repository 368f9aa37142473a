"""The coursework's `checkpoint.pth`, its variants, and what is refused in its place."""

import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet34

from evaluator.classifiers.coursework import coursework_classifier
from evaluator.classifiers.weights import load_evaluator
from lab.data.labels import ClassVocabulary
from lab.errors import LabError
from lab.training.checkpoints import FORMAT, load_checkpoint

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
    with pytest.raises(LabError, match="weights do not fit ResNet-18: its last layer has 24 classes"):
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


State = dict[str, Tensor]


def state() -> State:
    return dict(coursework_network().state_dict())


def prefixed(prefix: str, weights: State | None = None) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in (weights or state()).items()}


def plain_linear() -> State:
    return {name.replace("fc.0.", "fc."): tensor for name, tensor in state().items()}


VARIANTS: dict[str, Callable[[], dict[str, Any]]] = {
    "bare": state,
    "bare, plain linear": plain_linear,
    "bare, with dropout before the linear": lambda: {n.replace("fc.0.", "fc.1."): t for n, t in state().items()},
    "DataParallel": lambda: {"model": prefixed("module.")},
    "Lightning": lambda: {"epoch": 3, "state_dict": prefixed("model."), "hyper_parameters": {"lr": 1e-3}},
    "Lightning around DataParallel": lambda: {"state_dict": prefixed("net.resnet18.module.")},
    "torch.compile": lambda: prefixed("_orig_mod.", plain_linear()),
    "a name beside the weights": lambda: {"model": "resnet18", "model_state_dict": state(), "optimizer": {"lr": 1.0}},
    "before torch 0.4.1": lambda: {"model": {n: t for n, t in state().items() if not n.endswith("_tracked")}},
    "half precision": lambda: {"model": {n: t.half() for n, t in state().items()}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_the_same_network(variant: str) -> None:
    classifier = coursework_classifier(Path("checkpoint.pth"), VARIANTS[variant](), 24).eval()
    images = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        tolerance = 1e-2 if variant == "half precision" else 1e-5
        expected = coursework_network()(images)
        torch.testing.assert_close(classifier(images).sigmoid(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("variant", ["bare", "DataParallel", "Lightning"])
def test_variants_are_read_from_files(tmp_path: Path, variant: str) -> None:
    torch.save(VARIANTS[variant](), path := tmp_path / "checkpoint.pth")
    evaluator = load_evaluator(path, VOCABULARY, CPU)
    assert (evaluator.image_shape, evaluator.vocabulary, evaluator.config.kind) == ((3, 64, 64), VOCABULARY, "resnet18")


def two_linear_layers() -> State:
    return state() | {"fc.2.weight": torch.zeros(24, 24), "fc.2.bias": torch.zeros(24)}


REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "no weights": (
        lambda: {"net": state(), "epoch": 3},
        "none of the keys 'model', 'state_dict', 'model_state_dict' and is not a bare state_dict\n"
        "keys in the file: 'net', 'epoch'",
    ),
    "a name": (
        lambda: {"model": "resnet18"},
        "no weights under 'model' and is not a bare state_dict\nkeys in the file: 'model'",
    ),
    "nothing": (lambda: {}, "keys in the file: none"),
    "another network": (
        lambda: {"model": {"features.0.weight": torch.zeros(3), "classifier.weight": torch.zeros(3)}},
        "'conv1.weight' is missing\nweights in the file: 'features.0.weight', 'classifier.weight'",
    ),
    "a larger ResNet": (
        lambda: {"model": resnet34(num_classes=24).state_dict()},
        "ResNet-18 has no 'layer1.2.conv1.weight'",
    ),
    "two last layers": (
        lambda: {"model": two_linear_layers()},
        "'fc.weight' is missing\nweights in the file: 'conv1.weight'",
    ),
    "a part is gone": (
        lambda: {"model": {n: t for n, t in state().items() if n != "layer2.0.bn1.bias"}},
        "'layer2.0.bn1.bias' is missing",
    ),
    "one channel": (
        lambda: {"model": state() | {"conv1.weight": torch.zeros(64, 1, 7, 7)}},
        "'conv1.weight' has shape (64, 1, 7, 7), but ResNet-18's has shape (64, 3, 7, 7)",
    ),
    "not finite": (
        lambda: {"model": state() | {"bn1.weight": torch.full((64,), float("nan"))}},
        "'bn1.weight' contains values that are not finite",
    ),
    "another number of classes": (
        lambda: {"model": prefixed("module.", dict(resnet18(num_classes=10).state_dict()))},
        "its last layer has 10 classes, but objects.json names 24",
    ),
    "a checkpoint of this lab": (lambda: {"format": 2, "denoiser": {}}, "contains a denoiser, not an evaluator"),
    "an evaluator of this lab, in part": (
        lambda: {"format": 2, "config": {}, "weights": {}},
        "is incomplete: it has no 'image_shape'; its keys are 'format', 'config', 'weights'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_names_the_key_and_those_there(tmp_path: Path, case: str) -> None:
    content, told = REFUSED[case]
    torch.save(content(), path := tmp_path / "checkpoint.pth")
    with pytest.raises(LabError) as refused:
        load_evaluator(path, VOCABULARY, CPU)
    assert told in str(refused.value)
    assert str(refused.value).startswith(f"{path}: ")
    assert len(str(refused.value).splitlines()) <= 2


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b"content")


def tarred(path: Path) -> None:
    (inside := path.with_name("inside.pth")).write_bytes(b"content")
    with tarfile.open(path, "w") as archive:
        archive.add(inside, inside.name)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "LFS pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 44801\n"),
        "is a Git LFS pointer, not the file itself; fetch the file with: git lfs pull",
    ),
    "quota page": (
        lambda path: path.write_text("\n<!DOCTYPE html><html><head>\n<title>Google Drive -\n Quota exceeded</title>"),
        "is a web page with the title 'Google Drive - Quota exceeded', not the file itself; download it again",
    ),
    "page without a title": (lambda path: path.write_text("<html lang='en'>"), "is a web page, not the file itself"),
    "storage error": (
        lambda path: path.write_text("<?xml version='1.0'?><Error>"),
        "is a web page, not the file itself",
    ),
    "text": (lambda path: path.write_text("Entry not found\n"), "is text that begins with 'Entry not found'; download"),
    "Chinese text": (
        lambda path: path.write_text("\u8df3\u8f49" * 3000, "utf-8"),
        "is text that begins with '\u8df3\u8f49",
    ),
    "empty": (lambda path: path.write_bytes(b""), "is empty (a damaged copy); download or copy it again"),
    "ZIP around it": (
        lambda path: zipped(path, "hw/readme.md", "hw/checkpoint.pth", "__MACOSX/hw/._checkpoint.pth"),
        "is a ZIP archive that contains 'hw/checkpoint.pth'; unpack it and name the file inside",
    ),
    "ZIP around two": (lambda path: zipped(path, "a.pth", "b.pt"), "that contains 'a.pth' and 1 more; unpack it"),
    "ZIP of others": (
        lambda path: zipped(path, "folder/", "x.npy"),
        "is a ZIP archive that contains 'x.npy'; unpack it",
    ),
    "empty ZIP": (lambda path: zipped(path), "is a ZIP archive without files"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b\x08\x00"), "is a gzip archive; unpack it"),
    "tar": (tarred, "is a tar archive; unpack it"),
    "folder": (lambda path: path.mkdir(), "is a folder, not a file"),
    "program": (
        lambda path: torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path),
        "is a TorchScript program, which contains code; save a state_dict with torch.save instead",
    ),
    "pickled network": (
        lambda path: torch.save(nn.Linear(2, 2), path),
        "holds more than tensors and primitives (torch.nn.modules.linear.Linear), and was not loaded;\n"
        "it may hold only tensors, numbers and text, like a state_dict",
    ),
    "absent": (lambda path: None, "no such"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize("case", KINDS)
def test_a_torch_file_that_is_none_is_reported_as_what_it_is(tmp_path: Path, case: str) -> None:
    write, told = KINDS[case]
    write(path := tmp_path / "checkpoint.pth")
    for noun, load in (
        ("evaluator", lambda: load_evaluator(path, VOCABULARY, CPU)),
        ("checkpoint", lambda: load_checkpoint(path, VOCABULARY)),
    ):
        with pytest.raises(LabError) as refused:
            load()
        assert told in str(refused.value)
        assert noun in str(refused.value)
        assert len(str(refused.value).splitlines()) <= 2


def test_a_checkpoint_of_another_program_says_which_keys_it_has(tmp_path: Path) -> None:
    torch.save({"model": state(), "epoch": 3}, path := tmp_path / "epoch0001.pt")
    with pytest.raises(LabError, match=r"no format number \(its keys are 'model', 'epoch'\)"):
        load_checkpoint(path, VOCABULARY)
    torch.save({"format": FORMAT, "weights": {}}, path)
    with pytest.raises(LabError, match="incomplete: it has no 'denoiser'; its keys are 'format', 'weights'"):
        load_checkpoint(path, VOCABULARY)
