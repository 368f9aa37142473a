"""The sweep: cells packed into batches, run once, and the same bits however often it was cut off."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lab.configuration.diffusion import CosineScheduleConfig, DPMSolverConfig
from lab.configuration.networks import ContextUnetConfig
from lab.data.labels import ClassVocabulary
from lab.diffusion.samplers import sample
from lab.errors import LabError
from lab.guidance.autoguidance import AutoMethod
from lab.guidance.classifier_free import PlainMethod
from lab.guidance.composed import ComposedMethod
from lab.networks.registry import build_denoiser
from lab.sweep import cells as sweep_cells
from lab.sweep import run as sweep
from lab.sweep.cells import StoredResult, SweepCell, earlier_results, load_result, save_result
from lab.sweep.run import Bench, Engine, packs, run_sweep
from lab.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from lab.types import ClassLogits, PixelImages
from tests.classes import some_classes

VOCABULARY = ClassVocabulary(("cube", "sphere", "cone"))
SHAPE = (1, 8, 8)
CPU = torch.device("cpu")
FILES = {"test": (("cube",), ("cone",), ("sphere", "cone")), "new_test": (("sphere",), ("cube", "cone"))}


def judge(pixels: PixelImages) -> ClassLogits:
    """Stands for an evaluator: sums over thirds of each image."""
    return pixels.float().flatten(1)[:, :63].reshape(len(pixels), 3, 21).sum(dim=2)


def engine(batch_size: int = 0) -> Engine:
    return Engine(judge, CPU, False, batch_size)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config, schedule = ContextUnetConfig(n_feat=8), CosineScheduleConfig(timesteps=20)
    for epoch in (1, 2):
        weights = build_denoiser(config, SHAPE, some_classes(3), schedule, epoch).state_dict()
        checkpoint = Checkpoint(config, schedule, SHAPE, VOCABULARY, epoch, epoch, {}, weights)
        save_checkpoint(tmp_path / f"epoch{epoch:04d}.pt", checkpoint)
    return tmp_path


def cells(seeds: int = 2, weights: tuple[float, ...] = (0.0, 2.0)) -> list[SweepCell]:
    sampler = DPMSolverConfig(sampling_steps=3)
    return [
        SweepCell(
            checkpoint=f"epoch{epoch:04d}",
            epoch=epoch,
            step=epoch,
            checkpoint_digest="",
            evaluator_digest="",
            label_set_file=name,
            label_sets=sets,
            method_name="plain",
            method=PlainMethod(),
            guidance_weight=weight,
            sampler=sampler,
            precision="float32",
            seeds=seeds,
        )
        for epoch in (1, 2)
        for weight in weights
        for name, sets in FILES.items()
    ]


def swept(folder: Path, of: list[SweepCell], kept_in: str = "cells", batch_size: int = 0) -> list[StoredResult]:
    return list(run_sweep(of, folder, VOCABULARY, engine(batch_size), folder / kept_in))


def test_results_come_in_order_and_hold_every_image(folder: Path) -> None:
    found = swept(folder, cells())
    assert [result.cell for result in found] == cells()
    assert [len(result.pixels) for result in found] == [len(cell.asked) for cell in cells()]
    assert {result.network_evaluations for result in found if result.cell.guidance_weight == 0} == {3}
    assert {result.network_evaluations for result in found if result.cell.guidance_weight == 2} == {6}


def test_a_packed_cell_has_the_images_it_has_alone(folder: Path) -> None:
    for packed in swept(folder, cells()):
        (alone,) = swept(folder, [packed.cell], "alone")
        # Another batch may round the last bits differently: at most to the next of 256 values.
        assert int((packed.pixels.int() - alone.pixels.int()).abs().max()) <= 1


@pytest.mark.parametrize("batch_size", [0, 1, 3, 4])
def test_a_sweep_that_was_cut_off_ends_with_the_bits_of_one_that_was_not(folder: Path, batch_size: int) -> None:
    whole = swept(folder, cells(), batch_size=batch_size)
    for lost in range(len(whole)):
        (folder / "cells" / f"{whole[lost].cell.key}.npz").unlink()
        again = swept(folder, cells(), batch_size=batch_size)
        for before, after in zip(whole, again, strict=True):
            assert torch.equal(before.pixels, after.pixels)
            assert torch.equal(before.logits, after.logits)


def number_of_threads(pixels: PixelImages) -> ClassLogits:
    """Stands for an evaluator: every logit is the number of threads that torch computes on."""
    return torch.full((len(pixels), 3), float(torch.get_num_threads()))


def test_cells_are_computed_on_as_many_threads_as_the_engine_says_and_nothing_else_is(folder: Path) -> None:
    before = torch.get_num_threads()
    for threads in (before + 1, 0):
        engine = Engine(number_of_threads, CPU, threads=threads)
        for result in run_sweep(cells(), folder, VOCABULARY, engine, folder / str(threads)):
            assert set(result.logits.flatten().tolist()) == {threads or before}
            assert torch.get_num_threads() == before


def note_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that the size of every batch sampled from now on is added to."""
    sizes: list[int] = []

    def noting(*arguments: Any) -> torch.Tensor:
        sizes.append(len(arguments[3]))
        return sample(*arguments)

    monkeypatch.setattr(sweep, "sample", noting)
    return sizes


def test_label_set_files_share_batches_and_cells_of_a_checkpoint_its_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(path: Path, vocabulary: ClassVocabulary) -> Checkpoint:
        loaded.append(path.stem)
        return load_checkpoint(path, vocabulary)

    monkeypatch.setattr(sweep, "load_checkpoint", load)
    sampled = note_batches(monkeypatch)
    swept(folder, cells())
    assert loaded == ["epoch0001", "epoch0002"]
    # Two checkpoints, two weights; three and two label sets, two seeds each.
    assert sampled == [10, 10, 10, 10]
    swept(folder, cells())
    assert len(sampled) == 4


def test_only_batches_with_a_wanted_image_are_sampled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = swept(folder, cells(), batch_size=6)
    sampled = note_batches(monkeypatch)
    # Of the first pack's six and four images the file test.json has the first six.
    pixels = whole[0].pixels
    (folder / "cells" / f"{whole[0].cell.key}.npz").unlink()
    assert torch.equal(swept(folder, cells(), batch_size=6)[0].pixels, pixels)
    assert sampled == [6]


def test_a_result_is_read_as_it_was_written(folder: Path) -> None:
    bench = Bench(folder, VOCABULARY, engine())
    for pack, _ in packs(cells(), folder / "cells"):
        for result in bench.results(pack):
            stored = save_result(folder / "cells", result)
            found = load_result(folder / "cells", result.cell)
            assert found is not None
            assert torch.equal(found.pixels, result.pixels)
            assert torch.equal(found.logits, result.logits)
            assert replace(found, logits=stored.logits) == stored


def test_the_images_of_a_sweep_are_not_kept(folder: Path) -> None:
    for result in (*swept(folder, cells()), *swept(folder, cells())):
        held = [value for value in vars(result).values() if isinstance(value, torch.Tensor)]
        assert [tuple(tensor.shape) for tensor in held] == [tuple(result.logits.shape)]


def test_images_whose_file_was_damaged_since_are_an_error(folder: Path) -> None:
    first, second, *_ = swept(folder, cells())
    paths = [folder / "cells" / f"{result.cell.key}.npz" for result in (first, second)]
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:-30])
    for path, result in zip(paths, (first, second), strict=True):
        with pytest.raises(LabError, match=f"{path.name}.*delete it to run it again"):
            _ = result.pixels


def test_what_composed_guidance_costs_is_told_for_each_file(folder: Path) -> None:
    composed = ComposedMethod(avoided_scale=0.0)
    of = [replace(cell, method_name="composed", method=composed) for cell in cells() if cell.epoch == 1]
    costs = {
        (found.cell.label_set_file, found.cell.guidance_weight): found.network_evaluations
        for found in swept(folder, of)
    }
    for (name, weight), cost in costs.items():
        # One unconditional and one for each label, over three steps; a set of one label takes plain guidance's way.
        evaluations = [1 if len(each) == 1 and weight in (0, -1) else 1 + len(each) for each in FILES[name]]
        assert cost == pytest.approx(3 * sum(evaluations) / len(evaluations), rel=1e-9)
    # Cut off, it tells the same.
    (folder / "cells" / f"{of[0].key}.npz").unlink()
    assert swept(folder, of)[0].network_evaluations == costs[of[0].label_set_file, of[0].guidance_weight]


def test_another_precision_is_another_cell(folder: Path) -> None:
    before, after = (swept(folder, [replace(cells()[0], precision=name)])[0] for name in ("float32", "bfloat16"))
    assert before.cell.key != after.cell.key
    assert not torch.equal(before.pixels, after.pixels)


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"checkpoint": "copy", "checkpoint_digest": "other"}])
def test_a_network_is_shared_by_cells_of_one_checkpoint_and_precision_alone(
    folder: Path, change: dict[str, str]
) -> None:
    config, schedule = ContextUnetConfig(n_feat=8), CosineScheduleConfig(timesteps=20)
    weights = build_denoiser(config, SHAPE, some_classes(3), schedule, 7).state_dict()
    # Another network of the same epoch and step.
    save_checkpoint(folder / "copy.pt", Checkpoint(config, schedule, SHAPE, VOCABULARY, 1, 1, {}, weights))
    first = cells()[0]
    second = replace(first, **change)  # type: ignore[arg-type]  # fields of text
    together = swept(folder, [first, second])
    (alone,) = swept(folder, [second], "alone")
    assert torch.equal(together[1].pixels, alone.pixels)
    assert not torch.equal(together[0].pixels, together[1].pixels)


def test_a_weak_network_is_shared_by_cells_of_one_precision_alone(folder: Path) -> None:
    first = replace(cells()[-1], method_name="auto", method=AutoMethod(), weaker_checkpoint="epoch0001")
    second = replace(first, precision="bfloat16")
    together = swept(folder, [first, second])
    (alone,) = swept(folder, [second], "alone")
    assert torch.equal(together[1].pixels, alone.pixels)


def test_cells_of_earlier_sweeps_that_cannot_be_read_do_not_stop_a_sweep(folder: Path) -> None:
    wider, narrower = cells(weights=(0.0, 1.0, 2.0)), cells(weights=(0.0,))
    swept(folder, wider)
    damaged, older = (folder / "cells" / f"{wider[place].key}.npz" for place in (2, 3))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    older.write_bytes(b"")
    results, unreadable = earlier_results(folder / "cells", narrower)
    assert {result.cell.key for result in results} == {
        cell.key for cell in wider if cell.guidance_weight and cell.key not in (damaged.stem, older.stem)
    }
    assert set(unreadable) == {damaged, older}


def test_a_cell_of_another_format_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swept(folder, cells()[:1])
    monkeypatch.setattr(sweep_cells, "FORMAT", 99)
    with pytest.raises(LabError, match="this file has format 2, but this version of the lab reads format 99"):
        swept(folder, cells()[:1])
