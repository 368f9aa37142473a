"""Fonts: the installed ones that have the characters of a text.

matplotlib brings DejaVu Sans along, which has no Chinese, Japanese or Korean. Where a text has such characters, the
installed fonts that have them follow DejaVu Sans, and matplotlib takes each character from the first that has it.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

DEFAULT = "DejaVu Sans"
BOXES = ("lastresort", "adobeblank")
"""Beginnings of the names of fonts that have a box for every character."""


@dataclass(frozen=True)
class Font:
    """One face of an installed font.

    Args:
        family: its name.
        path: of its file.
        index: of the face in its file.
        distance: how far it is from upright and regular; of several fonts, the nearest is taken.
    """

    family: str
    path: str
    index: int = 0
    distance: int = 0

    def among(self, characters: frozenset[str]) -> frozenset[str]:
        """Return those of these characters that it has, none where its file cannot be read."""
        try:
            # matplotlib before 3.11 knows the first face alone, and no argument that names it.
            face = FT2Font(self.path, face_index=self.index) if self.index else FT2Font(self.path)
        except (OSError, RuntimeError):
            return frozenset()
        return frozenset(character for character in characters if face.get_char_index(ord(character)))


def _font(entry: font_manager.FontEntry) -> Font:
    weight = entry.weight if isinstance(entry.weight, int) else 400
    distance = abs(weight - 400) + (0 if entry.style == "normal" else 1000) + (0 if "Sans" in entry.name else 50)
    return Font(entry.name, str(entry.fname), getattr(entry, "index", 0), distance)


def _known_fonts() -> list[Font]:
    fonts = [_font(entry) for entry in font_manager.fontManager.ttflist]
    return [font for font in fonts if not font.family.replace(" ", "").lower().lstrip(".").startswith(BOXES)]


@cache
def installed_fonts() -> tuple[Font, ...]:
    """Return all fonts of this machine, those too that were installed after matplotlib last looked for some."""
    known = {font.path for font in _known_fonts()}
    for path in sorted(set(font_manager.findSystemFonts()) - known):
        # One that is damaged, or has no outlines.
        with contextlib.suppress(OSError, RuntimeError, NotImplementedError, KeyError, ValueError):
            font_manager.fontManager.addfont(path)
    return tuple(_known_fonts())


def characters_to_draw(texts: Iterable[str]) -> frozenset[str]:
    """Return the characters of these texts that show as something."""
    return frozenset(character for character in "".join(texts) if character.isprintable() and character != " ")


@cache
def covering(characters: frozenset[str], fonts: Sequence[Font] | None = None) -> tuple[tuple[str, ...], str]:
    """Return the families that have these characters, DejaVu Sans first, and the characters that none has.

    Args:
        characters: see `characters_to_draw`.
        fonts: the fonts to choose from, as a tuple; all of this machine where None.
    """
    families, missing = [DEFAULT], characters - Font(DEFAULT, str(font_manager.findfont(DEFAULT))).among(characters)
    if not missing:
        return (DEFAULT,), ""
    faces: dict[str, Font] = {}
    for font in sorted(installed_fonts() if fonts is None else fonts, key=lambda font: (font.distance, font.family)):
        faces.setdefault(font.family, font)
    has = {family: font.among(missing) for family, font in faces.items()}
    while missing:
        best = max(has, key=lambda family: len(missing & has[family]), default=None)
        if best is None or not missing & has[best]:
            break
        families.append(best)
        missing -= has[best]
    return tuple(families), "".join(sorted(missing))
