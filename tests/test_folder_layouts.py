"""Folders as they are handed out: JSON files away from the images, links to shared copies, files skipped."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from experiments.configuration import Experiment
from experiments.stages import class_vocabulary, load_splits
from lab.configuration.data import DataConfig
from lab.data.datasets import DATASETS
from lab.data.image_folders import class_folders, scene_folder, scene_labels
from lab.data.labels import load_vocabulary
from lab.errors import LabError
from tests.command import TINY, run, table

ICLEVR = Path(__file__).parents[1] / ".." / "shared" / "labels" / "iclevr"
OBJECTS = {"red": 0, "green": 1}
LABELS = {
    f"scene_{scene}_{image}.png": ["red", "green"][: 1 + image] for scene in range(40) for image in range(2)
}  # fmt: skip
SCENES = DataConfig(dataset="scenes", image_size=8)


def write_json(folder: Path, labels: dict[str, list[str]] = LABELS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"objects": OBJECTS, "train": labels, "test": [["red"], ["red", "green"]], "new_test": [["green"]]}
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def handed_out(tmp_path: Path) -> Path:
    """The coursework's folder with its images in iclevr/, and no JSON file yet."""
    (images := tmp_path / "lab" / "iclevr").mkdir(parents=True)
    for name in LABELS:
        _, scene, image = name.removesuffix(".png").split("_")
        Image.new("RGBA", (32, 24), (255, 255 * int(image), int(scene))).save(images / name)
    return tmp_path / "lab"


LAYOUTS = {"with the images": "iclevr", "above the images": "", "in file/ beside them": "file"}


@pytest.mark.parametrize("place", LAYOUTS.values(), ids=LAYOUTS)
def test_the_json_files_are_read_where_they_are_handed_out(
    handed_out: Path, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images = handed_out / "iclevr"
    write_json(handed_out / place)
    dataset = scene_folder(images, 8, tmp_path / "cache")
    told = capsys.readouterr().err
    assert (f"{images}: objects.json and train.json are read from {handed_out / place}\n" in told) == (
        place != "iclevr"
    )
    assert dataset.vocabulary.label_sets(dataset.conditions) == [tuple(names) for names in LABELS.values()]
    experiment = Experiment(root=tmp_path, data=replace(SCENES, folder=Path("lab", "iclevr")))
    assert class_vocabulary(experiment) == dataset.vocabulary
    assert len(load_splits(experiment, dataset.vocabulary).generator) == 40


def test_the_nearest_train_json_counts(handed_out: Path) -> None:
    images = handed_out / "iclevr"
    for place in ("file", "", "iclevr"):
        write_json(handed_out / place)
        assert scene_labels(images) == handed_out / place


def test_above_is_meant_by_name(handed_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images' folder may be a link to a shared one, or the folder that the command is given in."""
    write_json(handed_out)
    monkeypatch.chdir(handed_out / "iclevr")
    assert scene_labels(Path()) == handed_out
    monkeypatch.chdir(handed_out)
    (own := tmp_path / "own").mkdir()
    write_json(own)
    (own / "iclevr").symlink_to(handed_out / "iclevr")
    assert scene_labels(own / "iclevr") == own
    assert len(scene_folder(own / "iclevr", 8, tmp_path / "cache")) == len(LABELS)


def test_one_option_names_the_images_and_one_the_json_files(
    handed_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(handed_out, {"wrong.png": ["red"]})
    write_json(tmp_path / "mine")
    data = replace(SCENES, folder=Path("lab", "iclevr"), labels_folder=Path("mine"))
    experiment = Experiment(root=tmp_path, data=data)
    vocabulary = class_vocabulary(experiment)
    assert len(load_splits(experiment, vocabulary).generator) == 40
    assert "are read from" not in capsys.readouterr().err
    (tmp_path / "mine" / "objects.json").unlink()
    with pytest.raises(LabError, match=r"mine/objects\.json: no such class vocabulary"):
        class_vocabulary(experiment)


def test_json_files_that_are_nowhere_are_refused_with_both_options(handed_out: Path, tmp_path: Path) -> None:
    experiment = Experiment(root=tmp_path, data=replace(SCENES, folder=Path("lab", "iclevr")))
    with pytest.raises(LabError, match="no objects.json and train.json in this folder, above it, or in file/") as error:
        class_vocabulary(experiment)
    assert "--data.folder says where the images are, --data.labels-folder where these two are" in str(error.value)
    assert len(str(error.value).splitlines()) == 2


def test_the_folder_above_the_images_is_answered_with_theirs(handed_out: Path, tmp_path: Path) -> None:
    write_json(handed_out)
    with pytest.raises(LabError) as error:
        scene_folder(handed_out, 8, tmp_path / "cache")
    told = str(error.value)
    assert "80 of 80 images cannot be used: 80 missing\n" in told
    assert f"this one is in {handed_out / 'iclevr'}: give that as --data.folder" in told


@pytest.mark.parametrize("level", ["files", "folder"])
def test_links_out_of_the_folder_are_followed_by_option_alone(handed_out: Path, tmp_path: Path, level: str) -> None:
    shared, own = handed_out / "iclevr", tmp_path / "own"
    expected = scene_folder(shared, 8, tmp_path / "expected", labels_folder=labels_of(tmp_path, "")).pixels
    own.mkdir()
    if level == "files":
        for name in LABELS:
            (own / name).symlink_to(shared / name)
        labels = labels_of(tmp_path, "")
    else:
        (own / "shared").symlink_to(shared)
        labels = labels_of(tmp_path, "shared/")
    for _ in range(2):  # what was decoded by the option's leave is refused without it all the same
        with pytest.raises(LabError) as error:
            scene_folder(own, 8, tmp_path / "cache", labels)
        told = str(error.value)
        assert "80 of 80 images cannot be used: 80 outside the folder\n" in told
        assert told.endswith("to follow links out of the folder, add --data.allow-links")
        config = replace(SCENES, allow_links=True, labels_folder=labels)
        assert torch.equal(DATASETS["scenes"](config, own, tmp_path / "cache").pixels, expected)


def labels_of(folder: Path, prefix: str) -> Path:
    write_json(place := folder / f"labels{prefix.strip('/')}", {prefix + name: sets for name, sets in LABELS.items()})
    return place


@pytest.mark.parametrize("name", ["../secret.png", "inside/../../secret.png", "..", "{absolute}"])
def test_names_that_lead_out_are_refused_links_allowed_or_not(handed_out: Path, tmp_path: Path, name: str) -> None:
    Image.new("RGB", (8, 8)).save(secret := handed_out / "secret.png")
    name = name.format(absolute=secret)
    write_json(handed_out, {name: ["red"]})
    with pytest.raises(LabError, match="1 of 1 images cannot be used: 1 outside the folder") as error:
        scene_folder(handed_out / "iclevr", 8, tmp_path / "cache", allow_links=True)
    assert "--data.allow-links" not in str(error.value)


def test_a_link_that_leads_nowhere_is_missing(handed_out: Path, tmp_path: Path) -> None:
    write_json(handed_out)
    name = next(iter(LABELS))
    (handed_out / "iclevr" / name).unlink()
    (handed_out / "iclevr" / name).symlink_to(tmp_path / "gone.png")
    with pytest.raises(LabError, match="1 of 80 images cannot be used: 1 missing"):
        scene_folder(handed_out / "iclevr", 8, tmp_path / "cache", allow_links=True)


def test_linked_class_folders_are_followed_by_option_alone(tmp_path: Path) -> None:
    pets, shared = tmp_path / "pets", tmp_path / "shared"
    for folder in (pets / "cat", shared):
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "a.png")
    (pets / "dog").symlink_to(shared)
    config = DataConfig(dataset="class_folders", image_size=8)
    with pytest.raises(LabError, match="1 of 2 images cannot be used: 1 outside the folder\n.*--data.allow-links"):
        DATASETS["class_folders"](config, pets, tmp_path / "cache")
    followed = DATASETS["class_folders"](replace(config, allow_links=True), pets, tmp_path / "cache")
    assert followed.vocabulary.names == ("cat", "dog")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dataset": "class_folders", "labels_folder": Path("x")}, "--data.labels-folder is x, but only scenes"),
        ({"dataset": "digits", "image_size": 0, "labels_folder": Path("x")}, "--data.labels-folder is x"),
        ({"dataset": "mnist", "image_size": 0, "allow_links": True}, "--data.allow-links is for folders of image"),
    ],
)
def test_options_that_a_dataset_has_no_use_for_are_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(LabError) as error:
        replace(SCENES, **change)
    assert told in str(error.value)


def test_where_files_lie_decides_no_network() -> None:
    before = Experiment(data=SCENES)
    moved = Experiment(data=replace(SCENES, folder=Path("x"), labels_folder=Path("y"), allow_links=True))
    assert moved.generator_settings() == before.generator_settings()
    assert moved.evaluator_settings() == before.evaluator_settings()


def test_images_that_train_json_does_not_name_are_counted_once(
    handed_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = handed_out / "iclevr"
    write_json(images, {f"./{name}" if name.startswith("scene_1") else name: sets for name, sets in LABELS.items()})
    scene_folder(images, 8, tmp_path / "cache")
    assert "skipped" not in capsys.readouterr().err
    names = ("more.PNG", "photo.jpg", ".hidden.png")
    for name in names:
        shutil.copy(images / "scene_0_0.png", images / name)
    (images / "folder.png").mkdir()
    scene_folder(images, 8, tmp_path / "cache")
    told = capsys.readouterr().err
    assert told.count(f"{images}: skipped 2 images that train.json does not name\n") == 1
    assert told.count("skipped") == 1


def test_folders_that_train_json_names_are_counted_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "in/b.png", "in/c.png", "other/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    write_json(tmp_path, {"in/b.png": ["red"]})
    scene_folder(tmp_path, 8, tmp_path / "cache")
    assert "skipped 2 images that train.json does not name" in capsys.readouterr().err


def test_what_class_folders_pass_over_is_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pets = tmp_path / "pets"
    for name in ("cat/a.png", "dog/b.jpg", "dog/.c.png"):
        (pets / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(pets / name)
    (pets / "test.json").write_text("[]")
    class_folders(pets, 8, tmp_path / "cache")
    assert "skipped" not in capsys.readouterr().err
    for name in ("cat/notes.txt", "cat/IMG_1.HEIC", "dog/IMG_2.heic", "dog/README", "dog/.DS_Store"):
        (pets / name).write_text("")
    (pets / "dog" / "puppies").mkdir()
    class_folders(pets, 8, tmp_path / "cache")
    assert capsys.readouterr().err == (
        f"{pets}: skipped 4 files of other endings (.heic, .txt, none) and 1 subfolder\n"
    )
    shutil.copy(pets / "cat" / "a.png", pets / "lost.png")
    class_folders(pets, 8, tmp_path / "cache")
    assert "and 1 subfolder and 1 image outside the class folders\n" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not ICLEVR.is_dir(), reason="the coursework's label files are not beside this checkout")
def test_the_coursework_s_own_files_are_read_in_every_layout(tmp_path: Path) -> None:
    vocabulary, images = load_vocabulary(ICLEVR / "objects.json"), tmp_path / "iclevr"
    images.mkdir()
    for place in (tmp_path / "file", tmp_path, images):
        place.mkdir(exist_ok=True)
        for path in ICLEVR.glob("*.json"):
            shutil.copy(path, place)
        experiment = Experiment(root=tmp_path, data=replace(SCENES, folder=Path("iclevr")))
        assert scene_labels(images) == place
        assert class_vocabulary(experiment) == vocabulary


@pytest.mark.long
def test_the_coursework_s_folder_goes_all_the_way(
    handed_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every student has the JSON files and links to one shared copy of the images."""
    write_json(handed_out / "file")
    shared = (handed_out / "iclevr").rename(tmp_path / "shared")
    (handed_out / "iclevr").mkdir()
    for name in LABELS:
        (handed_out / "iclevr" / name).symlink_to(shared / name)
    arguments = shlex.split(
        "digits --name lab --data.dataset scenes --data.folder lab/iclevr --data.image-size 8 --data.label-sets "
        "lab/file/test.json lab/file/new_test.json"
    )
    assert run(tmp_path, *arguments, *TINY) == 2
    assert "to follow links out of the folder, add --data.allow-links" in capsys.readouterr().err
    assert run(tmp_path, *arguments, *TINY, "--data.allow-links") == 0
    told = capsys.readouterr().err
    assert f"{handed_out / 'iclevr'}: objects.json and train.json are read from {handed_out / 'file'}\n" in told
    sizes = table(tmp_path, "splits", "lab")
    assert dict(zip(sizes["split"], sizes["images"], strict=True)) == {"generator": 40, "evaluator": 24, "held out": 16}
    page = (tmp_path / "reports" / "lab" / "report.md").read_text(encoding="utf-8")
    assert re.search(r"\| generator +\| 40 +\| 0\.5 +\|", page)
    # Moved into one folder, it is the same experiment: nothing is trained again.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints" / "lab").glob("*.pt")}
    write_json(shared)
    arguments[arguments.index("lab/iclevr")] = "shared"
    assert run(tmp_path, *arguments, *TINY) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
