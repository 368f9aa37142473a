"""Figures: the user's surroundings of matplotlib do not reach them, and every character is drawn that a font has."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from evaluator.reporting import canvas, fonts
from evaluator.reporting.fonts import Font, characters_to_draw, covering
from tests.command import FILES, PROJECT, TINY, command, new_root

MATPLOTLIB = sys.modules["matplotlib"]  # as `canvas` imported it
SURROUNDINGS = "text.usetex: True\nbackend: qt5agg\nfigure.facecolor: black\nfont.family: Nonsense\nsavefig.dpi: 7\n"
DRAW = """
import sys
from pathlib import Path
from evaluator.reporting.figures import weight_name
from evaluator.reporting.canvas import saved_figure
with saved_figure(Path(sys.argv[1]), height=1) as figure:
    figure.subplots().set_title(weight_name(0) + " $x")
print("matplotlib.pyplot" in sys.modules)
"""


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """A notebook's variable, and a matplotlibrc."""
    (tmp_path / "matplotlibrc").write_text(SURROUNDINGS)
    return {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MATPLOTLIBRC": str(tmp_path)}


@pytest.mark.long
@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense", "qtagg", ""])
def test_a_figure_has_the_same_bytes_in_any_surroundings(
    tmp_path: Path, surroundings: dict[str, str], backend: str
) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MPL")}
    plain |= {"PYTHONPATH": str(PROJECT)}
    for name, environment in (("plain.png", plain), ("user.png", plain | surroundings | {"MPLBACKEND": backend})):
        done = subprocess.run(
            [sys.executable, "-c", DRAW, str(tmp_path / name)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "False"
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "user.png").read_bytes()


@pytest.mark.long
def test_a_run_in_a_notebook_makes_the_same_report(
    finished: Path, tmp_path: Path, surroundings: dict[str, str]
) -> None:
    root = new_root(tmp_path / "root")
    environment = os.environ | surroundings
    done = subprocess.run(
        command("digits", *TINY, "--root", str(root)), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Accuracy against epoch shows the minutes that training took, which differ.
    for name in sorted(name for name in FILES - {"accuracy_vs_epoch.png"} if name.endswith(".png")):
        path = Path("reports", "digits", name)
        assert (root / path).read_bytes() == (finished / path).read_bytes(), name


def test_what_a_figure_is_drawn_with_stays_out_of_the_users_settings() -> None:
    before = dict(MATPLOTLIB.rcParams.copy())
    with canvas.canvas(height=1):
        assert MATPLOTLIB.rcParams["text.parse_math"] is False
    assert dict(MATPLOTLIB.rcParams.copy()) == before


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Font]:
    """A font that has one character, a black square for U+65B9."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord("方"): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Tiny", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path := tmp_path / "tiny.ttf")
    manager = sys.modules["matplotlib.font_manager"].fontManager
    before = list(manager.ttflist)
    manager.addfont(path)
    yield Font("Tiny", str(path))
    manager.ttflist[:] = before


def test_the_font_that_has_a_character_follows_the_default(tiny: Font) -> None:
    assert covering(frozenset("ab"), (tiny,)) == (("DejaVu Sans",), "")
    assert covering(frozenset("a方"), (tiny,)) == (("DejaVu Sans", "Tiny"), "")
    assert covering(frozenset("a方塊"), (tiny,)) == (("DejaVu Sans", "Tiny"), "塊")
    assert covering(frozenset("方"), ()) == (("DejaVu Sans",), "方")
    assert covering(frozenset("方"), (Font("Gone", "no such file"),)) == (("DejaVu Sans",), "方")


def test_the_upright_regular_face_is_preferred(tiny: Font) -> None:
    other = Font("Other", tiny.path, distance=1000)
    assert covering(frozenset("方"), (other, tiny))[0] == ("DejaVu Sans", "Tiny")


def test_no_font_is_asked_for_what_shows_as_nothing() -> None:
    assert characters_to_draw(["a b\n", "\t\x1b方"]) == frozenset("ab方")


def drawn(monkeypatch: pytest.MonkeyPatch, installed: tuple[Font, ...], tick: str) -> bytes:
    monkeypatch.setattr(fonts, "installed_fonts", lambda: installed)
    covering.cache_clear()
    with canvas.canvas(height=1) as figure:
        figure.subplots().set_xticks([0.5], [tick])
        return canvas.png(canvas.drawn(figure))


def test_a_character_is_drawn_in_the_font_that_has_it_and_never_warned_of(
    monkeypatch: pytest.MonkeyPatch, tiny: Font
) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            without, within = drawn(monkeypatch, (), "方"), drawn(monkeypatch, (tiny,), "方")
            assert without != within
            assert drawn(monkeypatch, (), "a") == drawn(monkeypatch, (tiny,), "a")
    finally:
        covering.cache_clear()


def test_fonts_that_have_a_box_for_everything_are_no_fonts() -> None:
    assert not [font for font in fonts.installed_fonts() if "last" in font.family.lower()]


@pytest.mark.parametrize("module", sorted(path.stem for path in Path(canvas.__file__).parent.glob("[a-z]*.py")))
def test_each_module_of_reports_can_be_imported_first_in_a_notebooks_shell(module: str) -> None:
    # Another environment's notebook exports a backend that is not installed here.
    surroundings = os.environ | {"MPLBACKEND": "module://not_installed.backend"}
    code = f"import evaluator.reporting.{module}, os; print(os.environ['MPLBACKEND'])"
    done = subprocess.run([sys.executable, "-c", code], env=surroundings, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "module://not_installed.backend"), done.stderr
