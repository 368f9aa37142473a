"""Checkpoints and the files below them: whole, verified, and refused by name where they do not fit."""

import pickle
from pathlib import Path

import pytest
import torch

from evaluator.classifiers.networks import build_classifier
from evaluator.classifiers.weights import Evaluator, save_evaluator
from evaluator.configuration import EvaluatorConfig
from lab.configuration.checks import as_primitives
from lab.configuration.diffusion import CyclicCosineScheduleConfig, LinearScheduleConfig
from lab.configuration.networks import ContextUnetConfig
from lab.configuration.training import TrainingConfig, require_same_training
from lab.data.labels import ClassVocabulary
from lab.errors import LabError
from lab.machine.files import load_tensors, save_tensors, whole_file
from lab.networks.registry import build_denoiser
from lab.training.checkpoints import FORMAT, Checkpoint, load_checkpoint, save_checkpoint
from tests.classes import some_classes

VOCABULARY = ClassVocabulary(("a", "b", "c"))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    config, schedule = ContextUnetConfig(n_feat=8), LinearScheduleConfig(timesteps=50)
    weights = build_denoiser(config, (1, 8, 8), some_classes(3), schedule, seed=3).state_dict()
    checkpoint = Checkpoint(config, schedule, (1, 8, 8), VOCABULARY, 2, 20, {"seed": 3}, weights)
    save_checkpoint(tmp_path / "epoch0002.pt", checkpoint)
    return tmp_path / "epoch0002.pt"


def test_a_checkpoint_predicts_the_same_noise_after_the_way_through_a_file(saved: Path) -> None:
    loaded = load_checkpoint(saved, VOCABULARY)
    original = build_denoiser(loaded.denoiser, (1, 8, 8), some_classes(3), loaded.schedule, seed=3).eval()
    inputs = torch.randn(2, 1, 8, 8), torch.tensor([0, 49]), torch.eye(3)[:2]
    assert torch.equal(loaded.noise_predictor()(*inputs), original(*inputs))
    assert (loaded.epoch, loaded.step, loaded.settings, loaded.schedule.kind) == (2, 20, {"seed": 3}, "linear")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a", "b"), "has 3 classes, but objects.json has 2"),
        (("a", "c", "b"), "class 1 is 'b', but objects.json calls it 'c'"),
    ],
)
def test_another_vocabulary_is_refused(saved: Path, names: tuple[str, ...], told: str) -> None:
    with pytest.raises(LabError, match=told):
        load_checkpoint(saved, ClassVocabulary(names))


def test_an_evaluator_in_place_of_a_checkpoint_is_named(tmp_path: Path) -> None:
    judge, classifier = EvaluatorConfig(width=4), build_classifier(EvaluatorConfig(width=4), 1, 3, seed=0)
    save_evaluator(tmp_path / "evaluator.pt", Evaluator(judge, (1, 8, 8), VOCABULARY, classifier, {}))
    with pytest.raises(LabError, match="contains an evaluator, not a denoiser; give a checkpoint"):
        load_checkpoint(tmp_path / "evaluator.pt", VOCABULARY)


def test_a_flipped_bit_is_an_error_and_never_a_different_network(saved: Path) -> None:
    content, weights = saved.read_bytes(), load_checkpoint(saved, VOCABULARY).weights
    noticed = 0
    for place in range(0, len(content), len(content) // 60):
        flipped = bytearray(content)
        flipped[place] ^= 1
        saved.write_bytes(flipped)
        try:
            loaded = load_checkpoint(saved, VOCABULARY).weights
        except LabError:
            noticed += 1
        else:  # the bit was in the padding between two tensors
            assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    assert noticed > 40


def test_a_tensor_s_file_that_is_called_a_folder_is_still_that_tensor(saved: Path) -> None:
    content, weights = bytearray(saved.read_bytes()), load_checkpoint(saved, VOCABULARY).weights
    # External attributes in the zip's central directory, which has no checksum: 0x10 is a folder of MS-DOS. torch's own
    # reader then leaves the tensor as the memory was.
    entry = content.find(b"PK\x01\x02")
    while entry >= 0:
        content[entry + 38] ^= 0x10
        entry = content.find(b"PK\x01\x02", entry + 1)
    saved.write_bytes(content)
    loaded = load_checkpoint(saved, VOCABULARY).weights
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.pt", "another.pt"):
        save_tensors(tmp_path / name, {"weights": torch.arange(5.0), "step": 3})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another.pt").read_bytes()


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_cut_file_is_an_error(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(LabError, match="damaged"):
        load_checkpoint(saved, VOCABULARY)


class Call:
    """Pickles as a call that would write a file when loaded."""

    def __init__(self, victim: str) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.victim, "w")


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "bad.pt"
    torch.save({"format": FORMAT, "weights": Call(str(victim))}, path)
    with pytest.raises(LabError, match="more than tensors and primitives"):
        load_checkpoint(path, VOCABULARY)
    path.write_bytes(pickle.dumps(Call(str(victim))))
    with pytest.raises(LabError, match="damaged or not a torch file"):
        load_checkpoint(path, VOCABULARY)
    assert not victim.exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"format": 99}, f"format 99, but this version of the lab reads format {FORMAT}"),
        ({"weights": {}}, "no format number"),
        ({"format": 1}, f"format 1, but this version of the lab reads format {FORMAT}"),
        ({"format": FORMAT}, "incomplete"),
    ],
)
def test_another_format_says_so(tmp_path: Path, content: dict[str, object], told: str) -> None:
    save_tensors(tmp_path / "x.pt", content)
    with pytest.raises(LabError, match=told):
        load_checkpoint(tmp_path / "x.pt", VOCABULARY)


def test_the_earlier_cyclic_cosine_is_refused_which_began_at_the_other_end(saved: Path) -> None:
    content = load_tensors(saved, "checkpoint", "")
    earlier = {"kind": "cyclic_cosine", "timesteps": 50, "beta_start": 1e-4, "beta_end": 0.02, "zero_terminal": False}
    content["schedule"] = earlier
    save_tensors(saved, content)
    with pytest.raises(LabError, match="epoch0002.pt was made with an earlier --schedule.kind cyclic_cosine"):
        load_checkpoint(saved, VOCABULARY)
    now = {"schedule": CyclicCosineScheduleConfig(timesteps=50), "training": TrainingConfig()}
    stored = as_primitives(now)
    require_same_training(saved, stored, now)
    with pytest.raises(LabError, match="which began at its lowest beta"):
        require_same_training(saved, stored | {"schedule": earlier}, now)


def test_weights_of_another_network_are_refused(saved: Path) -> None:
    content = load_tensors(saved, "checkpoint", "")
    content["denoiser"]["n_feat"] = 16
    save_tensors(saved, content)
    with pytest.raises(LabError, match="do not fit the checkpoint's own configuration"):
        load_checkpoint(saved, VOCABULARY)


def write_half_and_fail(path: Path) -> None:
    with whole_file(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError("the process dies here")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="dies here"):
        write_half_and_fail(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def write_to_a_full_disk(path: Path) -> None:
    with whole_file(path) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("new")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device on this system")
def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(LabError, match="cannot write .No space left on device."):
        write_to_a_full_disk(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
