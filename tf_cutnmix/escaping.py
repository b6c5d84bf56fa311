"""Names that others chose, as they are compared, and where they can do no harm: in a line,
Markdown, a cell of CSV.
"""

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # --help waits for no pandas
    import pandas as pd

# They join or part letters in several scripts and in emoji, and turn nothing round.
_JOINERS = "\u200c\u200d"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def composed(name: str) -> str:
    """A name as it is compared: Unicode writes "é" as one character, and as two that look alike."""
    return unicodedata.normalize("NFC", name)


def one_line(text: str, longest: int | None = None) -> str:
    """Text in one line: what is no printable character, such as a mark that turns the direction
    of writing, stands as its escape; of more than `longest` characters the middle is left out.
    """
    shown = "".join(
        c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode() for c in text
    )
    if longest is None or len(shown) <= longest:
        return shown
    tail = (longest - 1) // 2
    return f"{shown[: longest - 1 - tail]}…{shown[len(shown) - tail :]}"


def markdown(text: str) -> str:
    """Text in one line of Markdown, also in a table: no tags, links, code or further cells."""
    return re.sub(r"([\\`|<>&]|\](?=\())", r"\\\1", one_line(text))


def cell(value: object) -> object:
    """A value for a cell of CSV: text that a spreadsheet would compute gets an apostrophe."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def csv(table: "pd.DataFrame") -> str:
    """A table as CSV, without its index, each of its cells as `cell` has it."""
    return table.map(cell).to_csv(index=False, lineterminator="\n")
