"""Rendering a data set that looks like i-CLEVR into a folder, as many processes at once as wanted.

The folder holds `objects.json` (class name -> index), `train.json` (file name -> class names), the label-set files
`test.json`, `new_test.json` and `unseen.json`, and the pictures `CLEVR_train_SCENE_K.png` with K + 1 objects, 320 x 240
RGB. `scenes.json` says which seed and which form of the folder it is.

A picture's bytes depend on the seed and its scene's number alone, so a render that was interrupted goes on where it
stopped, and one with more scenes adds to those there.
"""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from lab.configuration.checks import require_range
from lab.errors import LabError
from lab.machine.files import whole_file
from lab.scenes.layout import CLASS_NAMES, PICTURES_PER_SCENE, label_set_files, place_scene

if TYPE_CHECKING:
    from lab.scenes.studio import Studio

FORMAT = 1
"""Goes up when the pictures of a seed change, so that old and new are never mixed in one folder."""

PNG_END = b"\x00\x00\x00\x00IEND\xaeB\x60\x82"
"""The last chunk of every complete PNG file."""


@dataclass(frozen=True)
class SceneConfig:
    """A folder of rendered scenes."""

    out: Path
    """The folder: new, rendered with the same seed before, or at least without another data set's files."""
    scenes: int
    """How many scenes; each gives 3 pictures, with 1, 2 and 3 objects. i-CLEVR has 6,003."""
    seed: int = 0
    """Decides what stands where; scene i of a seed is the same however many scenes there are."""
    processes: int = 0
    """Processes that render at the same time; 0 is one for each CPU core. It changes the speed, not the pictures."""

    def __post_init__(self) -> None:
        require_range("scenes", self.scenes, 1, 999_999)
        require_range("seed", self.seed, 0, 2**31 - 1)
        require_range("processes", self.processes, 0, 1024)


def picture_name(scene: int, picture: int) -> str:
    """Return the file name of a scene's picture; picture 0 has one object."""
    return f"CLEVR_train_{scene:06d}_{picture}.png"


def write_label_set_files(folder: Path) -> None:
    """Write `objects.json` and the three label-set files; they are the same for every seed and need no Mitsuba."""
    for name, content in _label_files().items():
        _write(folder / name, content)


def _label_files() -> dict[str, str]:
    vocabulary = {name: index for index, name in enumerate(CLASS_NAMES)}
    return {name: _json(content) for name, content in ({"objects.json": vocabulary} | label_set_files()).items()}


def render_scenes(config: SceneConfig) -> None:
    """Render the pictures that `config.out` lacks, then write `train.json` with exactly `config.scenes` scenes.

    Raises:
        LabError: Mitsuba is not installed; the folder is not one, is another seed's or holds something else; a file
            cannot be written; a rendering process died.
    """
    # Here and not only in the processes, so that a missing Mitsuba is told before anything is written.
    from lab.scenes.studio import load_mitsuba

    load_mitsuba()
    out = config.out
    try:
        _claim(out, config.seed)
        write_label_set_files(out)
        names = {i: [picture_name(i, k) for k in range(PICTURES_PER_SCENE)] for i in range(config.scenes)}
        missing = {i: [name for name in names[i] if not _is_complete(out / name)] for i in names}
        _render_missing(config, {i: lacking for i, lacking in missing.items() if lacking})
        labels: dict[str, list[str]] = {}
        for i in names:
            classes = [placed.name for placed in place_scene(config.seed, i)]
            labels |= {name: classes[: k + 1] for k, name in enumerate(names[i])}
        _write(out / "train.json", _json(labels))
    except OSError as error:
        raise LabError(f"--out {out}: cannot render into this folder ({error.strerror or error})") from None


def _claim(out: Path, seed: int) -> None:
    """Make the folder this seed's, or raise LabError where it is something else's."""
    if out.exists() and not out.is_dir():
        raise LabError(f"--out {out} is a file; allowed is a folder, new, empty or rendered before")
    mark = out / "scenes.json"
    if not mark.exists():
        found_file = _foreign_file(out)
        if found_file:
            raise LabError(
                f"--out {out} holds a {found_file} that this command did not write and would replace;\n"
                "name a new or an empty folder"
            )
        _write(mark, _json({"format": FORMAT, "seed": seed}))
        return
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))
        found_format, found_seed = found["format"], found["seed"]
    except (ValueError, KeyError, TypeError):
        raise LabError(
            f'{mark}: allowed is {{"format": {FORMAT}, "seed": ...}}; name a new folder with --out'
        ) from None
    if found_format != FORMAT:
        raise LabError(
            f"{mark}: the folder has format {found_format!r}, and this version renders format {FORMAT};\n"
            "name a new folder with --out"
        )
    if found_seed != seed:
        raise LabError(
            f"--seed is {seed}, but {out} holds scenes of seed {found_seed!r};\n"
            f"go on with --seed {found_seed}, or name another folder with --out"
        )


def _foreign_file(out: Path) -> str | None:
    """The name of a file of another data set that rendering into this folder would replace, if there is one.

    The label files that belong to the scenes may be there already, and so may anything that is never written.
    """
    ours = _label_files()
    for path in sorted(out.iterdir()) if out.exists() else []:
        differs = path.name in ours and path.read_bytes() != ours[path.name].encode()
        if differs or path.name == "train.json" or path.match("CLEVR_train_*.png"):
            return path.name
    return None


def _render_missing(config: SceneConfig, missing: dict[int, list[str]]) -> None:
    total = config.scenes * PICTURES_PER_SCENE
    done = total - sum(map(len, missing.values()))
    if not missing:
        return
    processes = min(config.processes or _cores(), len(missing))
    # Spawned and not forked: a fork copies Mitsuba's locks but not the threads that would open them.
    executor = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    with tqdm(total=total, initial=done, desc="rendering", unit="image") as progress:
        try:
            with _ignoring_interrupts():
                futures: list[Future[int]] = [
                    executor.submit(_render_scene, config.out, config.seed, i, lacking)
                    for i, lacking in missing.items()
                ]
            for future in as_completed(futures):
                progress.update(future.result())
        except BrokenProcessPool:
            raise LabError(
                f"{config.out}: a rendering process was ended from outside (out of memory?); what is rendered stays;\n"
                "give the same command again to go on, with a smaller --processes if need be"
            ) from None
        finally:
            # On an error or Ctrl-C the scenes under way are finished, the rest are dropped.
            executor.shutdown(wait=True, cancel_futures=True)


def _noise(seed: int, index: int) -> int:
    """The seed of a scene's samples; a sampler takes 32 bits."""
    return (1_000_000 * seed + index) % 2**32


_studio: "Studio | None" = None
"""This process's studio; loading one takes as long as some pictures."""


def _render_scene(out: Path, seed: int, index: int, lacking: list[str]) -> int:
    """Render one scene and write those of its pictures that are lacking; return how many. Runs in its own process."""
    from PIL import Image

    from lab.scenes.studio import Studio

    global _studio
    _studio = _studio or Studio()
    for k, levels in enumerate(_studio.pictures(place_scene(seed, index), noise=_noise(seed, index))):
        path = out / picture_name(index, k)
        if path.name in lacking:
            with whole_file(path) as partial:
                Image.fromarray(levels).save(partial, format="PNG", compress_level=3)
    return len(lacking)


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Let processes that start meanwhile ignore Ctrl-C, which a terminal sends to them too; this one decides."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_complete(path: Path) -> bool:
    """Whether a file is there and ends as a PNG file does."""
    try:
        with path.open("rb") as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except OSError:
        return False


def _json(content: object) -> str:
    return json.dumps(content) + "\n"


def _write(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(text.encode())
