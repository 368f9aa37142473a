"""Selection: which images the page has room for.

If all images are too many, seeds are dropped evenly. If one seed is too many, checkpoints are dropped evenly, but never
the best row's. If one checkpoint is too many, label sets are dropped evenly.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


def evenly(count: int, kept: int) -> list[int]:
    """Return `kept` of the numbers 0 to count - 1, evenly spaced, the first and the last among them."""
    if kept >= count:
        return list(range(count))
    if kept == 1:
        return [0]
    return [round(place * (count - 1) / (kept - 1)) for place in range(kept)]


@dataclass(frozen=True)
class Selection:
    """The images that a page shows.

    Args:
        seeds: the seeds of each label-set file.
        checkpoints: the numbers of the checkpoints.
        label_sets: the places in each label-set file.
    """

    seeds: Mapping[str, Sequence[int]]
    checkpoints: Sequence[int]
    label_sets: Mapping[str, Sequence[int]]

    def of(self, file: str, size: int) -> list[int]:
        """Return the places of the shown images in a cell whose file has so many label sets, ordered by seed."""
        return [seed * size + place for seed in self.seeds[file] for place in self.label_sets[file]]


@dataclass(frozen=True)
class Sweep:
    """What there is to select from.

    Args:
        seeds: the number of seeds of each label-set file.
        label_sets: the number of label sets in each file.
        cells: the number of cells of each label-set file at each checkpoint.
        checkpoints: the number of checkpoints.
        best: the best row's checkpoint.
    """

    seeds: Mapping[str, int]
    label_sets: Mapping[str, int]
    cells: Mapping[str, int]
    checkpoints: int
    best: int

    def images(self, seeds: int, checkpoints: int, label_sets: int) -> int:
        """Return how many images there are with at most so many seeds, checkpoints and label sets of a file."""
        return checkpoints * sum(
            cells * min(seeds, self.seeds[file]) * min(label_sets, self.label_sets[file])
            for file, cells in self.cells.items()
        )

    def select(self, room: int) -> Selection:
        """Return the largest selection of at most so many images, or the smallest if none is small enough."""
        seeds, label_sets = max(self.seeds.values()), max(self.label_sets.values())
        checkpoints = self.checkpoints
        seeds = _most(seeds, lambda most: self.images(most, checkpoints, label_sets) <= room)
        if seeds == 1:
            checkpoints = _most(checkpoints, lambda most: self.images(1, most, label_sets) <= room)
        if checkpoints == 1:
            label_sets = _most(label_sets, lambda most: self.images(seeds, 1, most) <= room)
        kept = evenly(self.checkpoints, checkpoints)
        if self.best not in kept:
            nearest = min(range(len(kept)), key=lambda place: abs(kept[place] - self.best))
            kept[nearest] = self.best
        return Selection(
            seeds={file: evenly(count, seeds) for file, count in self.seeds.items()},
            checkpoints=sorted(kept),
            label_sets={file: evenly(count, label_sets) for file, count in self.label_sets.items()},
        )

    def left_out(self, selection: Selection) -> list[str]:
        """Return in words what a selection leaves out, a sentence each."""
        sentences = []
        for file, count in self.seeds.items():
            if len(shown := selection.seeds[file]) < count:
                seeds = f"{len(shown)} of {count} seeds: {_numbers(shown)}"
                sentences.append(f"Of {file}.json it has the images of {seeds}.")
            if len(places := selection.label_sets[file]) < self.label_sets[file]:
                sentences.append(f"Of {file}.json it has {len(places)} of {self.label_sets[file]} label sets.")
        if len(selection.checkpoints) < self.checkpoints:
            sentences.append(f"It has images of {len(selection.checkpoints)} of {self.checkpoints} checkpoints.")
        return sentences


def _numbers(numbers: Sequence[int]) -> str:
    shown = [*map(str, numbers)] if len(numbers) <= 20 else [*map(str, numbers[:3]), "...", str(numbers[-1])]
    return ", ".join(shown)


def _most(count: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number from 1 to `count` that fits, or 1."""
    low, high = 1, count
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
