"""Fonts: the installed fonts that have the characters of a text.

matplotlib ships DejaVu Sans, which has no Chinese, Japanese or Korean characters. A text with these characters also
lists the installed fonts that have them, and matplotlib takes each character from the first font that has it.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from evaluator.reporting.drawing import FT2Font, font_manager

DEFAULT = "DejaVu Sans"
BOXES = ("lastresort", "adobeblank")
"""Prefixes of the names of fonts that draw a box for every character."""


@dataclass(frozen=True)
class Font:
    """One face of an installed font.

    Args:
        family: name of the font family.
        path: path of the font file.
        index: index of the face in the file.
        distance: distance from upright and regular; the font with the smallest distance is preferred.
    """

    family: str
    path: str
    index: int = 0
    distance: int = 0

    def among(self, characters: frozenset[str]) -> frozenset[str]:
        """Return the subset of these characters that the font has; the empty set if its file cannot be read."""
        try:
            # matplotlib before 3.11 reads only the first face and has no argument `face_index`.
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
    """Return all fonts of this machine, including fonts installed since matplotlib built its font cache."""
    known = {font.path for font in _known_fonts()}
    for path in sorted(set(font_manager.findSystemFonts()) - known):
        # Skip fonts that are damaged or have no outlines.
        with contextlib.suppress(OSError, RuntimeError, NotImplementedError, KeyError, ValueError):
            font_manager.fontManager.addfont(path)
    return tuple(_known_fonts())


def characters_to_draw(texts: Iterable[str]) -> frozenset[str]:
    """Return the visible characters of these texts."""
    return frozenset(character for character in "".join(texts) if character.isprintable() and character != " ")


@cache
def covering(characters: frozenset[str], fonts: Sequence[Font] | None = None) -> tuple[tuple[str, ...], str]:
    """Return the families that have these characters, DejaVu Sans first, and the characters missing from all families.

    Args:
        characters: see `characters_to_draw`.
        fonts: the fonts to choose from, as a tuple; None for all fonts of this machine.
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
