"""Text from file names and users' files: names that are no UTF-8, other encodings, output that has no such letters."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evaluator.classifiers.networks import build_classifier
from evaluator.classifiers.weights import Evaluator, save_evaluator
from evaluator.configuration import EvaluatorConfig
from experiments.command_line import main
from lab.data.image_folders import class_folders
from lab.data.labels import ClassVocabulary, load_image_labels, load_label_sets, load_vocabulary
from lab.errors import LabError
from lab.text import escape_output, printable
from tests.cells import a_cell
from tests.command import TINY, command

BIG5 = "方塊".encode("big5")
ESCAPED = r"\xa4\xe8\xb6\xf4"
VOCABULARY = ClassVocabulary(("方塊", "cube"))

needs_bytes = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names of this system are Unicode")


def under(folder: Path, name: bytes) -> Path:
    """Return the path of a file whose name is these bytes."""
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + name))


@given(st.text(st.characters(exclude_categories=[])))
def test_printable_text_can_be_encoded_and_unicode_stays(text: str) -> None:
    shown = printable(text)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert printable(shown) == shown
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert shown == text


def test_bytes_of_a_file_name_are_shown_as_escapes() -> None:
    assert printable(BIG5.decode("utf-8", "surrogateescape")) == ESCAPED
    assert printable("\ud800") == r"\ud800"
    # Where the system's encoding is ASCII, names in UTF-8 come as bytes, too.
    assert printable("方".encode().decode("ascii", "surrogateescape")) == "方"


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("objects.json", {"方塊": 0, "cube": 1}, load_vocabulary),
        ("test.json", [["方塊"], ["cube"]], lambda path: load_label_sets(path, VOCABULARY)),
        ("train.json", {"0.png": ["方塊"]}, lambda path: load_image_labels(path, VOCABULARY)),
    ],
)
def test_json_is_read_as_windows_writes_it(
    tmp_path: Path, name: str, content: object, read: Callable[[Path], object]
) -> None:
    path, text = tmp_path / name, json.dumps(content, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    plain = read(path)
    path.write_text(text, encoding="utf-8-sig", newline="\r\n")
    assert read(path) == plain
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
        path.write_text(text, encoding=encoding)
        with pytest.raises(LabError) as refused:
            read(path)
        assert str(refused.value).startswith(f"{path} is {encoding[:6].upper()} text; save it as UTF-8 (")
    path.write_text(text, encoding="big5")
    with pytest.raises(LabError, match="is not UTF-8 text; save it as UTF-8"):
        read(path)


def test_a_class_may_be_named_as_it_is_shown_or_by_its_bytes(tmp_path: Path) -> None:
    (path := tmp_path / "test.json").write_text(json.dumps([[ESCAPED], ["\udca4\udce8\udcb6\udcf4"]]))
    assert load_label_sets(path, ClassVocabulary((ESCAPED, "cube"))) == ((ESCAPED,), (ESCAPED,))


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-8", r"é 方 \xa4\xe8"), ("cp1252", r"é \u65b9 \xa4\xe8"), ("ascii", r"\xe9 \u65b9 \xa4\xe8")],
)
def test_output_shows_what_its_encoding_lacks_as_escapes(
    monkeypatch: pytest.MonkeyPatch, encoding: str, told: str
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(content := io.BytesIO(), encoding=encoding))
        escape_output()
        getattr(sys, name).write("é 方 \udca4\udce8")
        getattr(sys, name).flush()
        assert content.getvalue() == told.encode(encoding)


def test_a_cells_file_is_named_in_ascii_and_by_all_that_it_is() -> None:
    names = ("方", "圓", "a/b", "test")
    cells = [a_cell(label_set_file=name, guidance_weight=0.0) for name in names]
    keys = {name: cell.key.rsplit("-", 1) for name, cell in zip(names, cells, strict=True)}
    assert {name: key[0] for name, key in keys.items()} == {
        "方": "epoch0001-_-w0-plain", "圓": "epoch0001-_-w0-plain",
        "a/b": "epoch0001-a_b-w0-plain", "test": "epoch0001-test-w0-plain",
    }  # fmt: skip
    assert len({key[1] for key in keys.values()}) == len(names)


def picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(path)


@needs_bytes
def test_a_class_folder_is_opened_under_its_true_name(tmp_path: Path) -> None:
    for level, name in enumerate((BIG5, b"cube", "圓柱".encode())):
        picture(under(tmp_path / "images", name) / "0.png", level)
    images = class_folders(tmp_path / "images", 8, tmp_path / "cache")
    levels = images.pixels[:, 0, 0, 0].tolist()
    names = [images.vocabulary.names[row.argmax()] for row in images.conditions]
    assert dict(zip(names, levels, strict=True)) == {ESCAPED: 0, "cube": 1, "圓柱": 2}


@needs_bytes
@pytest.mark.long
@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "cp1252"}, {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}]
)
def test_names_that_are_no_utf_8_come_through_a_whole_run(tmp_path: Path, environment: dict[str, str]) -> None:
    for level, name in enumerate((BIG5, "圓柱".encode())):
        for number in range(16):
            picture(under(tmp_path / "images", name) / f"{number}.png", 100 * level + number)
    label_sets = under(tmp_path, BIG5 + b".json")
    label_sets.write_text(json.dumps([["圓柱"], [ESCAPED]]), encoding="utf-8-sig")
    arguments = ["--data.dataset", "class_folders", "--data.folder", "images", "--data.image-size", "8"]
    done = subprocess.run(
        command("digits", *TINY, *arguments, "--data.label-sets", label_sets.name, "--root", "."),
        env=os.environ | environment,
        capture_output=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = tmp_path / "reports" / "digits"
    assert ESCAPED.encode() in done.stdout
    assert (pd.read_csv(report / "sweep.csv")["label_set"] == ESCAPED).all()
    assert set(pd.read_csv(report / "per_class.csv")["class"]) == {"圓柱", ESCAPED}
    assert ESCAPED.replace("\\", r"\\") in (report / "report.md").read_text(encoding="utf-8")
    assert ESCAPED.replace("\\", r"\textbackslash{}") in (report / "ranking.tex").read_text(encoding="utf-8")
    (told,) = json.loads((report / "config.json").read_text(encoding="utf-8"))["experiment"]["data"]["label_sets"]
    assert (tmp_path / told).read_bytes() == label_sets.read_bytes()
    assert all(path.name.isascii() for path in (tmp_path / "checkpoints" / "digits" / "cells").iterdir())


@needs_bytes
def test_a_submission_whose_folder_is_no_utf_8_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    config, vocabulary = EvaluatorConfig(width=4), ClassVocabulary(("方塊", "cube"))
    classifier = build_classifier(config, 3, 2, seed=0).eval()
    save_evaluator(tmp_path / "evaluator.pt", Evaluator(config, (3, 8, 8), vocabulary, classifier, {}))
    (tmp_path / "objects.json").write_text(json.dumps(vocabulary.names))
    (tmp_path / "test.json").write_text(json.dumps([["方塊"]]))
    picture((submission := under(tmp_path, BIG5)) / "0.png", 0)
    files = {"--labels": "test.json", "--weights": "evaluator.pt", "--out": "scores.csv"}
    monkeypatch.setattr(sys, "stdout", os.fdopen(os.dup(1), "w", encoding="ascii"))
    named = [str(part) for option, file in files.items() for part in (option, tmp_path / file)]
    assert main(["score", "--images", str(submission), *named]) == 0
    sys.stdout.close()
    assert ESCAPED.encode() in capfdbinary.readouterr().out
    assert pd.read_csv(tmp_path / "scores.csv")["folder"].tolist() == [str(tmp_path / ESCAPED)]
    assert pd.read_csv(tmp_path / "scores_images.csv")["asked"].tolist() == ["方塊"]
