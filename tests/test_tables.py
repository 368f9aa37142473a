"""Tables: what stands in a file's text must not become markup."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.tables import escape_latex, escape_markdown, latex, markdown, with_intervals, write_csv, write_text


def test_markdown_cells_cannot_break_the_table() -> None:
    lines = markdown(pd.DataFrame([{"c|<b>": "a|b\n<script>*x*", "accuracy": 0.5}])).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(r"| c\|&lt;b&gt; ")
    assert lines[2].startswith(r"| a\|b &lt;script&gt;\*x\* | 0.5 ")


@given(st.text())
def test_escaped_latex_has_no_bare_special_character(text: str) -> None:
    rest = escape_latex(text)
    for command in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}", *(f"\\{c}" for c in "&%$#_{}")):
        rest = rest.replace(command, "")
    assert not set(rest) & set("\\&%$#_{}~^\n")


@given(st.text())
def test_escaped_markdown_holds_no_tag_and_no_line_end(text: str) -> None:
    assert not set(escape_markdown(text)) & set("<>\n")


def test_escaped_markdown_holds_no_formula() -> None:
    assert escape_markdown("$x$") == r"\$x\$"


def test_intervals_are_folded_into_one_readable_column() -> None:
    table = pd.DataFrame([{"w": 2.0, "test": 0.95, "test_low": 0.9, "test_high": 1.0}])
    assert with_intervals(table).to_dict("records") == [{"w": 2.0, "test": "0.950 (0.900 to 1.000)"}]


def test_column_names_are_words_on_pages_and_identifiers_in_csv(tmp_path: Path) -> None:
    row = {"guidance_weight": 2.0, "accuracy": 0.95, "accuracy_low": 0.9, "accuracy_high": 1.0, "snake": "a_b"}
    table = pd.DataFrame([row])
    readable = with_intervals(table)
    assert list(readable) == ["guidance_weight", "accuracy", "snake"]
    heading, _, body = markdown(readable).splitlines()
    assert [name.strip() for name in heading.strip("|").split("|")] == ["guidance weight", "accuracy", "snake"]
    assert r"a\_b" in body
    assert r"guidance weight & accuracy & snake \\" in latex(readable, "caption", "label")
    write_csv(path := tmp_path / "table.csv", table)
    assert list(pd.read_csv(path)) == list(row)


def test_column_names_that_become_the_same_words_both_stay() -> None:
    table = pd.DataFrame([{"new_test": 0.25, "new test": 0.75}])
    for text in (markdown(table), latex(table, "caption", "label")):
        assert text.count("new test") == 2
        assert "0.25" in text
        assert "0.75" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_latex_tables_compile(tmp_path: Path) -> None:
    table = pd.DataFrame([{"class_name": r"50% of {a} & b_c ~ ^ \ #$", "accuracy": 0.5}])
    body = latex(table, "All of $ & %", "tab:x")
    document = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{body}\\end{{document}}"
    (tmp_path / "x.tex").write_text(document)
    subprocess.run(["pdflatex", "-halt-on-error", "x.tex"], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("text", "begins"), [("cube", b"class"), ("方塊", b"\xef\xbb\xbfclass"), ("é", b"\xef\xbb\xbfclass")]
)
def test_a_table_with_other_letters_says_that_it_is_unicode(tmp_path: Path, text: str, begins: bytes) -> None:
    table = pd.DataFrame({"class": [text, "b"], "accuracy": [0.5, 1.0]})
    write_csv(path := tmp_path / "table.csv", table)
    assert path.read_bytes().startswith(begins)
    pd.testing.assert_frame_equal(pd.read_csv(path), table)


def test_bytes_of_a_file_name_never_keep_a_table_from_being_written(tmp_path: Path) -> None:
    table = pd.DataFrame({"folder": [Path("\udca4")], "\udca4": ["\ud800"]})
    write_csv(path := tmp_path / "table.csv", table)
    assert list(pd.read_csv(path)) == ["folder", r"\udca4"]
    write_text(path, "\udca4")
    assert r"\xa4" in markdown(table[["\udca4"]])
    assert r"\textbackslash{}xa4" in latex(table[["\udca4"]], "caption", "label")
