"""Class vocabularies, label sets and conditions."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.data.labels import ClassVocabulary, load_image_labels, load_label_sets, load_vocabulary
from lab.errors import LabError

COLOURS = ClassVocabulary(("red cube", "blue cube", "red sphere"))
ICLEVR = Path(__file__).parents[1] / ".." / "shared" / "labels" / "iclevr"


def written(folder: Path, content: object) -> Path:
    path = folder / "test.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_conditions_are_multi_hot_in_vocabulary_order() -> None:
    conditions = COLOURS.conditions([("red sphere", "red cube"), ("blue cube",)])
    assert conditions.tolist() == [[1, 0, 1], [0, 1, 0]]


@given(st.lists(st.sets(st.sampled_from(COLOURS.names), min_size=1), min_size=1))
def test_label_sets_survive_the_way_to_conditions_and_back(label_sets: list[set[str]]) -> None:
    back = COLOURS.label_sets(COLOURS.conditions([tuple(label_set) for label_set in label_sets]))
    assert [set(label_set) for label_set in back] == label_sets


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[[", "line 1, column 3: not JSON"),
        (" ", "this label-set file is empty"),
        ({"a": 1}, "got an object; it must be a list of lists"),
        ("3", "got the number 3; it must be a list of lists"),
        ([], "has no label set"),
        ([["red cube"], "red cube"], "label set 2 of 2: got the text 'red cube'"),
        ([["red cube"], []], "label set 2 of 2: is empty"),
        ([[7]], "label set 1 of 1: got the number 7"),
        ([["rde cube"]], "label set 1 of 1: unknown class 'rde cube'; did you mean 'red cube'?"),
        ([["zzz"]], "unknown class 'zzz'; the 3 classes are 'red cube', 'blue cube', 'red sphere'"),
        ([["red cube", "red cube"]], "class 'red cube' occurs twice"),
    ],
)
def test_a_bad_label_set_file_is_told_apart(tmp_path: Path, content: object, told: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(LabError) as error:
        load_label_sets(path, COLOURS)
    assert str(path) in str(error.value)
    assert told in str(error.value)


def test_image_labels_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, {"b.png": ["blue cube", "red cube"], "a.png": ["red sphere"]})
    labels = load_image_labels(path, COLOURS)
    assert list(labels.items()) == [("b.png", ("blue cube", "red cube")), ("a.png", ("red sphere",))]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([["red cube"]], 'got a list; it must be {"image file name": ["class"'),
        ({}, "got an empty object; it must be"),
        ({"a.png": ["red cube"], "b.png": "red cube"}, "image 'b.png': got the text 'red cube'"),
        ({"a.png": []}, "image 'a.png': is empty"),
        ({"a.png": [None]}, "image 'a.png': got null"),
        ({"a.png": ["red cub"]}, "image 'a.png': unknown class 'red cub'; did you mean 'red cube'?"),
        ({"a.png": ["red cube", "red cube"]}, "image 'a.png': class 'red cube' occurs twice"),
        ('{"a.png": ["red cube"], "a.png": ["blue cube"]}', "'a.png' occurs twice"),
    ],
)
def test_a_bad_file_of_image_labels_is_told_apart(tmp_path: Path, content: object, told: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(LabError) as error:
        load_image_labels(path, COLOURS)
    assert str(path) in str(error.value)
    assert told in str(error.value)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    written(tmp_path, [["red cube"]])
    with pytest.raises(LabError, match=r"tset.json: no such label-set file; did you mean 'test.json'\?"):
        load_label_sets(tmp_path / "tset.json", COLOURS)


@pytest.mark.parametrize("content", [["a", "b"], {"b": 1, "a": 0}])
def test_a_vocabulary_is_read_in_index_order(tmp_path: Path, content: object) -> None:
    assert load_vocabulary(written(tmp_path, content)).names == ("a", "b")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"a": 0, "b": 2}, "must be 0 to 1"),
        ({"a": 0, "b": 0}, "must be 0 to 1"),
        ({"a": True}, "not a whole number"),
        ('{"a": 0, "a": 1}', "'a' occurs twice"),
        (["a", "a"], "'a' occurs twice"),
        (["a", " "], "empty class name"),
        (["a", None], "class 1 is null"),
        ([], "at least one class name"),
        ("7", "got the number 7"),
    ],
)
def test_a_bad_vocabulary_is_told_apart(tmp_path: Path, content: object, told: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(LabError) as error:
        load_vocabulary(path)
    assert str(path) in str(error.value)
    assert told in str(error.value)


@pytest.mark.skipif(not ICLEVR.is_dir(), reason="the coursework's label files are not beside this checkout")
@pytest.mark.parametrize(("name", "sets", "labels"), [("test", 32, 72), ("new_test", 32, 84)])
def test_the_coursework_files_load_unchanged(name: str, sets: int, labels: int) -> None:
    vocabulary = load_vocabulary(ICLEVR / "objects.json")
    label_sets = load_label_sets(ICLEVR / f"{name}.json", vocabulary)
    assert len(vocabulary) == 24
    assert len(label_sets) == sets
    assert vocabulary.conditions(label_sets).sum() == labels


@pytest.mark.parametrize("dataset", ["digits", "mnist5k", "mnist", "fashion_mnist", "cifar10"])
def test_the_label_sets_in_git_are_balanced(dataset: str) -> None:
    folder = Path(__file__).parents[1] / "data" / dataset
    vocabulary = load_vocabulary(folder / "objects.json")
    test, new_test = (load_label_sets(folder / name, vocabulary) for name in ("test.json", "new_test.json"))
    assert len(vocabulary) == 10
    assert test == tuple((name,) for name in vocabulary.names) * 10
    assert sorted(new_test) == sorted(test)
    assert new_test != test
