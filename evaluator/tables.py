"""Tables of a report: CSV for machines, LaTeX and Markdown for readers.

Columns have identifiers as names in CSV ("guidance_weight") and words in LaTeX and Markdown ("guidance weight"). LaTeX
and Markdown escape all text from files, such as class names and label-set names.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from lab.machine.files import whole_file
from lab.text import printable


def csv(table: pd.DataFrame) -> bytes:
    """Return a table as CSV in UTF-8, with a byte order mark if the text is not ASCII.

    Without the mark, Excel reads a CSV file in the system's encoding. Other readers, like pandas, skip the mark.
    """
    text = table.to_csv(index=False, lineterminator="\n")
    return text.encode("utf-8" if text.isascii() else "utf-8-sig", "backslashreplace")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(csv(table))


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with every NAME, NAME_low and NAME_high merged into one column, like 0.994 (0.986 to 1.000).

    A value without an interval stands alone.
    """
    readable = table.copy()
    for name in [column for column in table if f"{column}_low" in table and f"{column}_high" in table]:
        columns = table[[name, f"{name}_low", f"{name}_high"]].to_numpy()
        form = "d" if pd.api.types.is_integer_dtype(table[name]) else ".3f"
        readable[name] = [
            ""
            if np.isnan(value)
            else f"{value:{form}}"
            if np.isnan(low)
            else f"{value:{form}} ({low:{form}} to {high:{form}})"
            for value, low, high in columns
        ]
        readable = readable.drop(columns=[f"{name}_low", f"{name}_high"])
    return readable


def _words(column: object) -> str:
    return str(column).replace("_", " ")


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def markdown(table: pd.DataFrame) -> str:
    """Return the table as Markdown, with words as column names and no markup inside cells."""
    texts = table.map(_cell).map(escape_markdown).rename(columns=lambda name: escape_markdown(_words(name)))
    return str(texts.to_markdown(index=False, disable_numparse=True))


def latex(table: pd.DataFrame, caption: str, label: str) -> str:
    """Return the table as a LaTeX booktabs table, with words as column names and special characters escaped."""
    texts = table.map(_cell).map(escape_latex).rename(columns=lambda name: escape_latex(_words(name)))
    return texts.to_latex(index=False, escape=False, caption=escape_latex(caption), label=label, position="htbp")


def escape_markdown(text: str) -> str:
    """Return text escaped so that Markdown, and HTML inside Markdown, shows it unchanged."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
    return re.sub(r"([\\`*_{}\[\]#|~!$])", r"\\\1", text)


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escape_latex(text: str) -> str:
    """Return text escaped so that LaTeX shows it unchanged."""
    return "".join(_LATEX.get(character, character) for character in printable(text).replace("\n", " "))
