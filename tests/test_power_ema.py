"""Power-function EMAs: their profiles, EMAs of other lengths rebuilt from them, and the sweep over lengths."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import lab
from evaluator.reporting.ema_lengths import by_length, ema_length_section, kept_rows
from experiments.command_line import main
from lab.configuration.diffusion import CosineScheduleConfig
from lab.configuration.networks import ContextUnetConfig
from lab.configuration.training import TrainingConfig
from lab.data.datasets import digits
from lab.errors import LabError
from lab.machine.computation import Computation
from lab.training.checkpoints import read_checkpoint
from lab.training.ema import ema, power_update
from lab.training.power_ema import FOLDER, Profiles, combination, gamma_of, rebuilt, save_snapshot, snapshot_steps
from lab.training.recipe import Recipe
from lab.training.runs import TrainingRun
from lab.training.trainer import Trainer
from tests.command import TINY, Mistake, new_root, run, table

IMAGES = digits().subset(torch.arange(90))
# 7 epochs of 3 steps: 16 snapshots fall within epochs too.
CONFIG = TrainingConfig(epochs=7, batch_size=40, warmup_steps=2, checkpoints=2, power_emas=(0.05, 0.1))
NETWORK = ContextUnetConfig(n_feat=8, bottleneck="map")
LENGTHS = st.floats(0.005, 0.28)


def opened(folder: Path, config: TrainingConfig = CONFIG) -> TrainingRun:
    recipe = Recipe(NETWORK, CosineScheduleConfig(), config)
    return TrainingRun(folder, IMAGES, recipe, {"training": config, "seed": 0}, Computation())


def shares(length: float, steps: int) -> np.ndarray:
    """Return the share of each step's weights in a power-function EMA, by the paper's recursion."""
    gamma, kept = gamma_of(length), np.zeros(steps)
    for t in range(1, steps + 1):
        beta = (1 - 1 / t) ** (gamma + 1)
        kept[: t - 1] *= beta
        kept[t - 1] = 1 - beta
    return kept


@given(length=LENGTHS)
def test_the_length_is_the_standard_deviation_of_the_profile(length: float) -> None:
    # On [0, 1] the profile is the density of a beta distribution, whose moments are in every table.
    a = gamma_of(length) + 1
    assert np.sqrt(a / ((a + 1) ** 2 * (a + 2))) == pytest.approx(length, rel=1e-9)


@pytest.mark.parametrize("length", [0.02, 0.05, 0.1, 0.28])
def test_an_average_is_the_weighted_mean_of_the_recorded_weights(length: float) -> None:
    network, random = nn.Linear(3, 2), torch.Generator().manual_seed(0)
    average, recorded = ema(network, power_update(gamma_of(length))), []
    for _ in range(40):
        for parameter in network.parameters():
            parameter.data = torch.randn(parameter.shape, generator=random)
        average.update_parameters(network)
        recorded.append(network.weight.detach().double())
    # The shares are the profile's integrals over [t - 1, t].
    times, gamma = np.arange(41), gamma_of(length)
    profile = np.diff((times / 40) ** (gamma + 1))
    np.testing.assert_allclose(profile, shares(length, 40), rtol=1e-9)
    wanted = (torch.from_numpy(profile)[:, None, None] * torch.stack(recorded)).sum(dim=0)
    torch.testing.assert_close(average.module.weight.double(), wanted, atol=1e-6, rtol=1e-5)


@given(first=st.tuples(st.integers(1, 1000), LENGTHS), second=st.tuples(st.integers(1, 1000), LENGTHS))
def test_inner_products_are_the_integrals_of_the_profiles(first: tuple[int, float], second: tuple[int, float]) -> None:
    one, other = (Profiles.of([steps], [length]) for steps, length in (first, second))
    (product,) = one.inner_products(other).ravel()
    # p_a p_b is a power of tau, so its integral over [0, min(t)] is exact; in logarithms, since powers are large.
    (t_a, a), (t_b, b) = ((steps, gamma_of(length)) for steps, length in (first, second))
    logarithm = (
        np.log(a + 1) - (a + 1) * np.log(t_a) + np.log(b + 1) - (b + 1) * np.log(t_b)
        + (a + b + 1) * np.log(min(t_a, t_b)) - np.log(a + b + 1)
    )  # fmt: skip
    assert product == pytest.approx(np.exp(logarithm), rel=1e-6, abs=1e-300)


def test_a_stored_length_is_its_own_combination() -> None:
    steps = sorted(snapshot_steps(800))
    coefficients, errors = combination(Profiles.of(steps, [0.05, 0.1]), Profiles.of([800], [0.05, 0.1]))
    np.testing.assert_allclose(coefficients[:-2], 0, atol=1e-9)
    np.testing.assert_allclose(coefficients[-2:], np.eye(2), atol=1e-9)
    assert max(errors) < 1e-6


@pytest.mark.parametrize(("length", "bound"), [(0.03, 0.04), (0.07, 0.004), (0.2, 0.024)])
def test_the_error_is_that_of_the_profiles_of_a_training(length: float, bound: float) -> None:
    """Each step's weights are a direction of their own, so that what an EMA is off by is what its shares are off by."""
    total, stored = 4000, (0.05, 0.1)
    steps = sorted(snapshot_steps(total))
    coefficients, (error,) = combination(Profiles.of(steps, stored), Profiles.of([total], [length]))
    snapshots = np.zeros((len(steps) * len(stored), total))
    for place, step in enumerate(steps):
        for which, of_length in enumerate(stored):
            snapshots[2 * place + which, :step] = shares(of_length, step)
    wanted = shares(length, total)
    off = np.linalg.norm(coefficients[:, 0] @ snapshots - wanted) / np.linalg.norm(wanted)
    # The steps are 1/4000 of the training apart, so sums are integrals up to a part in a thousand.
    assert off == pytest.approx(error, rel=0.02)
    assert error < bound
    # Nothing near the combination is nearer: it is the least-squares one.
    fitted, *_ = np.linalg.lstsq(snapshots.T, wanted, rcond=None)
    best = np.linalg.norm(fitted @ snapshots - wanted) / np.linalg.norm(wanted)
    assert best <= off <= 1.02 * best


@given(total=st.integers(1, 10_000))
def test_snapshots_are_spaced_evenly_and_the_last_is_at_the_end(total: int) -> None:
    steps = sorted(snapshot_steps(total))
    assert steps[-1] == total
    assert len(steps) == min(total, 16)
    gaps = np.diff([0, *steps])
    assert gaps.max() - gaps.min() <= 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, torch.Tensor]]]:
    """A folder with a training, and the weights after each of its steps."""
    folder, recorded = tmp_path_factory.mktemp("trained"), []
    training = opened(folder)
    for _ in training.steps():
        assert training._trainer is not None
        recorded.append(copy.deepcopy(training._trainer.denoiser.state_dict()))
    return folder, recorded


def test_a_rebuilt_length_is_off_by_what_its_profile_is_off_by(
    trained: tuple[Path, list[dict[str, torch.Tensor]]],
) -> None:
    folder, recorded = trained
    newest, lengths, total = opened(folder).kept[-1], (0.05, 0.07, 0.15), len(recorded)
    checkpoint = read_checkpoint(newest.path)
    steps = sorted(snapshot_steps(total))
    coefficients, _ = combination(Profiles.of(steps, CONFIG.power_emas), Profiles.of([total], lengths))
    snapshots = np.zeros((2 * len(steps), total))
    for place, step in enumerate(steps):
        for which, of_length in enumerate(CONFIG.power_emas):
            snapshots[2 * place + which, :step] = shares(of_length, step)
    for (made, _), length, of_length in zip(rebuilt(folder, checkpoint, lengths), lengths, coefficients.T, strict=True):
        assert (made.epoch, made.step) == (newest.epoch, newest.step)
        assert made.settings["ema_length"] == length
        made.require_fit()
        combined, wanted = of_length @ snapshots, shares(length, total)
        for name, tensor in made.weights.items():
            if not tensor.is_floating_point():
                assert torch.equal(tensor, checkpoint.weights[name])
                continue
            path = torch.stack([one[name].double() for one in recorded])
            expected, tracked = (torch.tensordot(torch.from_numpy(part), path, dims=1) for part in (combined, wanted))
            torch.testing.assert_close(tensor.double(), expected, atol=1e-5, rtol=1e-5)
            off, most = (expected - tracked).norm(), float(np.linalg.norm(combined - wanted)) * path.norm()
            assert off <= 1.000001 * most + 1e-12
        if length == 0.05:  # kept, so rebuilt exactly
            np.testing.assert_allclose(combined, wanted, atol=1e-9)


def test_a_resumed_training_saves_the_same_snapshots(
    trained: tuple[Path, list[dict[str, torch.Tensor]]], tmp_path: Path
) -> None:
    folder, _ = trained
    for last in (1, 9, 16):
        steps = opened(tmp_path).steps()
        for step in steps:
            if step.step == last:
                break
        steps.close()  # type: ignore[attr-defined]  # a generator
    for _ in opened(tmp_path).steps():
        pass
    names = sorted(path.name for path in (folder / FOLDER).iterdir())
    assert len(names) == 16
    for name in names:
        assert (folder / FOLDER / name).read_bytes() == (tmp_path / FOLDER / name).read_bytes()


def test_the_option_changes_no_bit_of_the_other_weights(
    trained: tuple[Path, list[dict[str, torch.Tensor]]], tmp_path: Path
) -> None:
    without = replace(CONFIG, power_emas=())
    for _ in opened(tmp_path, without).steps():
        pass
    assert not (tmp_path / FOLDER).exists()
    for kept in opened(tmp_path, without).kept:
        with_option = read_checkpoint(trained[0] / kept.path.name).weights
        for name, tensor in read_checkpoint(kept.path).weights.items():
            assert torch.equal(tensor, with_option[name])
    checkpoint = read_checkpoint(opened(tmp_path, without).kept[-1].path)
    with pytest.raises(LabError, match="kept no power-function EMAs; train with --training.power-emas"):
        rebuilt(tmp_path, checkpoint, [0.05])


def test_a_state_from_before_there_were_power_emas_goes_on() -> None:
    recipe = Recipe(NETWORK, training=replace(CONFIG, power_emas=()))
    state = Trainer(recipe, IMAGES).state_dict()
    del state["power_emas"]
    Trainer(recipe, IMAGES).load_state_dict(state)


def test_snapshots_that_are_missing_or_damaged_are_refused(
    trained: tuple[Path, list[dict[str, torch.Tensor]]], tmp_path: Path
) -> None:
    folder = shutil.copytree(trained[0], tmp_path / "copy")
    checkpoint = read_checkpoint(opened(folder).kept[-1].path)
    last = folder / FOLDER / "step0000021.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(bytes(content))
    with pytest.raises(LabError, match="step0000021.pt: this snapshot is damaged"):
        rebuilt(folder, checkpoint, [0.07])
    save_snapshot(folder, 21, [{"other": torch.zeros(3)}] * 2)
    with pytest.raises(LabError, match="this snapshot does not match the network of the checkpoints"):
        rebuilt(folder, checkpoint, [0.07])
    last.unlink()
    with pytest.raises(LabError, match="step0000021.pt: no such snapshot; restore it, or delete"):
        rebuilt(folder, checkpoint, [0.07])


def test_a_new_training_removes_the_snapshots_of_an_earlier_one(
    trained: tuple[Path, list[dict[str, torch.Tensor]]], tmp_path: Path
) -> None:
    folder = shutil.copytree(trained[0], tmp_path / "copy")
    shutil.copy(folder / "epoch0007.pt", folder / "ema0.07-epoch0007.pt")
    for path in folder.glob("*.pt"):
        if not path.name.startswith("ema"):
            path.unlink()
    steps = opened(folder, replace(CONFIG, epochs=20)).steps()
    next(iter(steps))
    assert not list(folder.glob("ema*.pt"))
    assert not list((folder / FOLDER).iterdir())
    steps.close()  # type: ignore[attr-defined]  # a generator


def test_training_from_python_needs_a_folder() -> None:
    with pytest.raises(LabError, match="training.power_emas saves snapshots, and train has no folder"):
        lab.train(IMAGES, Recipe(NETWORK, training=CONFIG), progress=False)


def test_the_page_has_a_row_for_each_length_and_a_column_for_each_weight() -> None:
    rows = [
        {
            "checkpoint": "epoch", "label_set": file,
            "guidance_method": method, "step": step, "ema_length": length, "guidance_weight": weight,
            "accuracy": value, "accuracy_low": value - 0.1, "accuracy_high": value + 0.1,
        }
        for file, method, step, length, weight, value in (
            ("test", "plain", 10, np.nan, 2.0, 0.5),  # another step
            ("test", "plain", 20, np.nan, 2.0, 0.6),
            ("test", "plain", 20, np.nan, 0.0, 0.3),
            ("test", "plain", 20, 0.2, 2.0, 0.8),
            ("test", "plain", 20, 0.05, 2.0, 0.7),
            ("test", "plain", 20, 0.05, 0.0, 0.4),
            ("other", "plain", 20, 0.05, 0.0, 0.9),
            ("test", "rescale", 20, 0.05, 0.0, 0.9),
        )
    ]  # fmt: skip
    sweep = pd.DataFrame(rows)
    table = by_length(sweep, "test", "plain").set_index("EMA length")
    assert list(table.index) == ["of the training", "0.05", "0.2"]
    assert list(table.columns) == ["w = 0", "w = 2"]
    assert table["w = 2"].str[:5].to_list() == ["0.600", "0.700", "0.800"]
    assert table["w = 0"].str[:5].to_list()[:2] == ["0.300", "0.400"]
    assert table["w = 0"].isna().to_list() == [False, False, True]
    assert len(kept_rows(sweep)) == 3
    assert ema_length_section(kept_rows(sweep), "test", "plain") == []
    # A student's teacher, which may be the best row's checkpoint, is not of the training and has no lengths.
    of_teacher = sweep[sweep["ema_length"].isna()].assign(checkpoint="teacher", guidance_method="interval")
    with_teacher = pd.concat([of_teacher, sweep])
    assert len(kept_rows(with_teacher)) == 3
    assert ema_length_section(with_teacher, "test", "interval") == ema_length_section(sweep, "test", "plain")


LENGTHS_OF_SWEEP = ["--training.power-emas", "0.05", "0.1", "--sweep.ema-lengths", "0.07", "0.1"]


def test_lengths_that_make_no_sense_are_refused(tmp_path: Path, mistake: Mistake) -> None:
    root = new_root(tmp_path)
    for told, arguments in (
        ("--training.power-emas is 0.3; it must be from 0.005 to 0.28", "--training.power-emas 0.3"),
        ("--training.power-emas has 0.1 twice", "--training.power-emas 0.1 0.1"),
        ("--sweep.ema-lengths is 0.0; it must be from", "--training.power-emas 0.1 --sweep.ema-lengths 0"),
        ("add --training.power-emas 0.05 0.1", "--sweep.ema-lengths 0.05"),
    ):
        mistake(root, told, "digits", *TINY, *arguments.split())


@pytest.mark.long
def test_a_weaker_checkpoint_that_is_the_only_kept_one_leaves_rows_of_the_rebuilt_ones(tmp_path: Path) -> None:
    root, weak = new_root(tmp_path), "checkpoints/digits/epoch0002.pt"
    one = ["--training.checkpoints", "1", "--guidance.method", "auto", "--weak-checkpoint", weak]
    assert run(root, "digits", *TINY, *LENGTHS_OF_SWEEP, *one) == 0
    assert set(table(root)["checkpoint"]) == {"ema0.07-epoch0002", "ema0.1-epoch0002"}
    assert "accuracy_vs_epoch.png" not in (root / "reports" / "digits" / "report.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_the_command_sweeps_lengths_like_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = new_root(tmp_path)
    assert run(root, "digits", *TINY, *LENGTHS_OF_SWEEP) == 0
    told = capsys.readouterr().err
    folder = root / "checkpoints" / "digits"
    assert f"{folder / 'ema0.07-epoch0002.pt'}: rebuilt, its profile is off by 0." in told
    assert f"{folder / 'ema0.1-epoch0002.pt'}: rebuilt, its profile is off by 0.0%" in told
    sweep, ranked = table(root), table(root, "ranking")
    lengths = sweep.drop_duplicates("checkpoint").set_index("checkpoint")["ema_length"]
    assert lengths.dropna().to_dict() == {"ema0.07-epoch0002": 0.07, "ema0.1-epoch0002": 0.1}
    assert set(lengths.index[lengths.isna()]) == {"epoch0001", "epoch0002"}
    assert len(sweep) == 4 * 3 * 2  # checkpoints, weights, files
    assert len(ranked) == 4 * 3
    assert table(root, "accuracy_by_epoch")["epoch"].tolist() == [1, 2]
    page = (root / "reports" / "digits" / "report.md").read_text(encoding="utf-8")
    header, _, *lines = [
        line.split("|")[1].strip() for line in page.partition("## EMA length")[2].splitlines() if line.startswith("|")
    ][:5]
    assert [header, *lines] == ["EMA length", "of the training", "0.07", "0.1"]
    named = {path.name.partition("_")[0] for path in (folder / "by_accuracy").iterdir()}
    assert named == {"epoch1", "epoch2", "ema0.07-epoch2", "ema0.1-epoch2"}
    # Lengths that were swept before are not sampled again, and one more is.
    files = {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    assert run(root, "digits", *TINY, *LENGTHS_OF_SWEEP, "0.15") == 0
    assert "0.07" not in "".join(line for line in capsys.readouterr().err.splitlines() if "rebuilt" in line)
    after = {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    assert files.items() <= after.items()
    assert len(after) == len(files) + 3 * 2
    # A rebuilt checkpoint is an ordinary one.
    arguments = ["--checkpoint", str(folder / "ema0.15-epoch0002.pt"), "--ask", "7", "--out", str(tmp_path / "out")]
    assert main(["sample", *arguments]) == 0
    assert (tmp_path / "out" / "0.png").exists()
