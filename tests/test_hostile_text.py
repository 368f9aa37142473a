"""Hostile input: whatever is in a file, what reads it ends in a result or in one clear error, and changes nothing.

More than 10,000 cases in all, with those of test_hostile_files.py. The lab reads no CSV file.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.configuration import Experiment
from experiments.reporting import refuse_other_report
from lab.configuration.checks import as_primitives
from lab.data.labels import load_image_labels, load_label_sets, load_vocabulary
from tests.command import run
from tests.hostile import (
    IMAGE_LABELS,
    LABEL_SETS,
    OBJECTS,
    VOCABULARY,
    as_file,
    cases,
    ended_well,
    names,
)

pytestmark = pytest.mark.long


@cases(3500)
@given(content=as_file(LABEL_SETS))
def test_label_set_files(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "test.json"
    path.write_bytes(content)
    ended_well(lambda: VOCABULARY.conditions(load_label_sets(path, VOCABULARY)), path)


@cases(3200)
@given(content=as_file(OBJECTS))
def test_vocabularies(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "objects.json"
    path.write_bytes(content)
    ended_well(lambda: load_vocabulary(path), path)


@cases(1500)
@given(content=as_file(IMAGE_LABELS))
def test_image_labels(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "train.json"
    path.write_bytes(content)
    ended_well(lambda: load_image_labels(path, VOCABULARY), path)


@cases(1000)
@given(content=as_file(json.dumps({"networks": as_primitives(Experiment().generator_settings())}).encode()))
def test_configurations_of_reports(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    root = tmp_path_factory.getbasetemp()
    path = root / "reports" / "digits" / "config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    ended_well(lambda: refuse_other_report(Experiment(root=root)), path)


@cases(60)
@given(
    field=st.sampled_from(["name", "seed", "device", "training.epochs", "sweep.guidance-weights", "data.label-sets"]),
    value=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12) | names,
)
def test_values_on_the_command_line(tmp_path_factory: pytest.TempPathFactory, field: str, value: str) -> None:
    # The folder is empty, so that nothing can be run whatever the value is.
    root = tmp_path_factory.getbasetemp() / "nothing"
    root.mkdir(exist_ok=True)
    try:
        status: object = run(root, "digits", f"--{field}", value.replace("\x00", ""))
    except SystemExit as ended:  # tyro's own
        status = ended.code
    assert status == 2
    assert not list(root.iterdir())
