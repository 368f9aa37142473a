"""Renders a data set that looks like i-CLEVR into a folder, in several processes.

The folder holds `objects.json` (class name -> index), `train.json` (file name -> class names), the label-set files
`test.json`, `new_test.json`, `unseen.json` and `more.json`, and the pictures `CLEVR_train_SCENE_K.png` with K + 1
objects, RGB, 320 x 240 or smaller. `scenes.json` records the seed, the height of the pictures and the folder's format.

The bytes of a picture depend only on the seed and the number of its scene. An interrupted render therefore continues
where it stopped, and a render of more scenes adds to the existing ones.
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
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tqdm import tqdm

from lab.configuration.checks import require_range
from lab.errors import LabError
from lab.machine.files import whole_file
from lab.scenes.layout import CLASS_NAMES, PICTURE_HEIGHT, PICTURES_PER_SCENE, label_set_files, place_scene

if TYPE_CHECKING:
    from lab.scenes.studio import Studio

FORMAT = 1
"""Increase it when the pictures of a seed change, so that a folder never mixes old and new pictures."""

PNG_END = b"\x00\x00\x00\x00IEND\xaeB\x60\x82"
"""The last chunk of every complete PNG file."""


@dataclass(frozen=True)
class SceneConfig:
    """A folder of rendered scenes."""

    out: Path
    """Output folder. It is new, was rendered with the same seed, or has no files of another data set."""
    scenes: int
    """Number of scenes. Each gives 3 pictures, with 1, 2 and 3 objects. i-CLEVR has 6,003 scenes."""
    seed: int = 0
    """Random seed of the scenes. Scene i of a seed does not depend on the number of scenes."""
    height: Literal[240, 120, 60] = 240
    """Height of the pictures in pixels; the width is four thirds of it. i-CLEVR has 240. Less renders faster: 120 is
    enough for images of 64x64, and 60 for 32x32."""
    processes: int = 0
    """Number of rendering processes; 0 means one for each CPU core. It affects the speed, not the pictures."""

    def __post_init__(self) -> None:
        require_range("scenes", self.scenes, 1, 999_999)
        require_range("seed", self.seed, 0, 2**31 - 1)
        require_range("processes", self.processes, 0, 1024)


def picture_name(scene: int, picture: int) -> str:
    """Return the file name of a scene's picture; picture 0 has one object."""
    return f"CLEVR_train_{scene:06d}_{picture}.png"


def write_label_set_files(folder: Path) -> None:
    """Write `objects.json` and the four label-set files. They are the same for every seed and do not need Mitsuba."""
    for name, content in _label_files().items():
        _write(folder / name, content)


def _label_files() -> dict[str, str]:
    vocabulary = {name: index for index, name in enumerate(CLASS_NAMES)}
    return {name: _json(content) for name, content in ({"objects.json": vocabulary} | label_set_files()).items()}


def render_scenes(config: SceneConfig) -> None:
    """Render the missing pictures of `config.out`, then write `train.json` with exactly `config.scenes` scenes.

    Raises:
        LabError: Mitsuba is not installed; the folder is a file, has another seed or holds another data set; a file
            cannot be written; or a rendering process died.
    """
    # Here as well as in the processes, so that a missing Mitsuba is an error before any file is written.
    from lab.scenes.studio import load_mitsuba

    load_mitsuba()
    out = config.out
    try:
        _claim(out, config.seed, config.height)
        write_label_set_files(out)
        names = {i: [picture_name(i, k) for k in range(PICTURES_PER_SCENE)] for i in range(config.scenes)}
        missing = {i: [name for name in names[i] if not _is_complete(out / name)] for i in names}
        _render_missing(config, {i: absent for i, absent in missing.items() if absent})
        labels: dict[str, list[str]] = {}
        for i in names:
            classes = [placed.name for placed in place_scene(config.seed, i)]
            labels |= {name: classes[: k + 1] for k, name in enumerate(names[i])}
        _write(out / "train.json", _json(labels))
    except OSError as error:
        raise LabError(f"--out {out}: cannot render into this folder ({error.strerror or error})") from None


def _claim(out: Path, seed: int, height: int) -> None:
    """Record seed and height in the folder, or raise LabError if the folder has others or another data set."""
    if out.exists() and not out.is_dir():
        raise LabError(f"--out {out} is a file; it must be a folder that is new, empty or rendered before")
    mark = out / "scenes.json"
    if not mark.exists():
        foreign = _foreign_file(out)
        if foreign:
            raise LabError(
                f"--out {out} holds a {foreign} that this command did not write and would replace;\n"
                "choose a new or empty folder"
            )
        _write(mark, _json({"format": FORMAT, "seed": seed, "height": height}))
        return
    try:
        content = json.loads(mark.read_text(encoding="utf-8"))
        stored_format, stored_seed = content["format"], content["seed"]
        # Folders from before the option have no height.
        stored_height = content.get("height", PICTURE_HEIGHT)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LabError(f'{mark}: must be {{"format": {FORMAT}, "seed": ...}}; choose a new folder with --out') from None
    if stored_format != FORMAT:
        raise LabError(
            f"{mark}: the folder has format {stored_format!r}, but this version renders format {FORMAT};\n"
            "choose a new folder with --out"
        )
    if stored_seed != seed:
        raise LabError(
            f"--seed is {seed}, but {out} holds scenes of seed {stored_seed!r};\n"
            f"continue with --seed {stored_seed}, or choose another folder with --out"
        )
    if stored_height != height:
        raise LabError(
            f"--height is {height}, but {out} holds pictures of height {stored_height!r};\n"
            f"continue with --height {stored_height}, or choose another folder with --out"
        )


def _foreign_file(out: Path) -> str | None:
    """Return the name of a file of another data set that rendering would replace, or None.

    The label files of the scenes may already exist, and so may files that rendering never writes.
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
    # Spawn, not fork: a fork copies Mitsuba's locks but not the threads that would release them.
    executor = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    with tqdm(total=total, initial=done, desc="rendering", unit="image") as progress:
        try:
            with _ignoring_interrupts():
                futures: list[Future[int]] = [
                    executor.submit(_render_scene, config, i, names) for i, names in missing.items()
                ]
            for future in as_completed(futures):
                progress.update(future.result())
        except BrokenProcessPool:
            raise LabError(
                f"{config.out}: a rendering process was killed (out of memory?); finished pictures are kept;\n"
                "repeat the command to continue, with a smaller --processes if necessary"
            ) from None
        finally:
            # After an error or Ctrl-C, the scenes in progress are finished and the others are cancelled.
            executor.shutdown(wait=True, cancel_futures=True)


def _noise(seed: int, index: int) -> int:
    """Return the seed of Mitsuba's sampler for a scene, which has 32 bits."""
    return (1_000_000 * seed + index) % 2**32


@cache
def _studio(pixel: int) -> "Studio":
    """Return the studio of this process. Loading one takes as long as rendering several pictures."""
    from lab.scenes.studio import Studio

    return Studio(pixel)


def _render_scene(config: SceneConfig, index: int, missing: list[str]) -> int:
    """Render one scene, write its missing pictures, and return their number. Runs in a process of its own."""
    from PIL import Image

    studio, scene = _studio(PICTURE_HEIGHT // config.height), place_scene(config.seed, index)
    for k, levels in enumerate(studio.pictures(scene, noise=_noise(config.seed, index))):
        path = config.out / picture_name(index, k)
        if path.name in missing:
            with whole_file(path) as partial:
                Image.fromarray(levels).save(partial, format="PNG", compress_level=3)
    return len(missing)


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Make processes started in the block ignore Ctrl-C, which a terminal also sends them; this process handles it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_complete(path: Path) -> bool:
    """Whether a file exists and ends like a complete PNG file."""
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
