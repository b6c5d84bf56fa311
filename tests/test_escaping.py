"""Names and errors of others: as harmless text, in a line, with the nearest that is known."""

import hypothesis
import hypothesis.strategies as st
import pytest

from tf_cutnmix import errors, escaping


def test_what_is_no_printable_character_stands_as_its_escape() -> None:
    assert escaping.one_line("a\nb\r\t\x1b[2J") == r"a\nb\r\t\x1b[2J"
    assert escaping.one_line("\u202egnp.exe\u2066\ud800") == r"\u202egnp.exe\u2066\ud800"
    assert escaping.one_line("Schäferhund 犬 כלב") == "Schäferhund 犬 כלב"
    assert escaping.one_line("abcdefghij", 5) == "ab…ij"


@hypothesis.given(st.text(), st.integers(3, 40))
def test_a_line_is_one_line_and_no_longer_than_asked(text: str, longest: int) -> None:
    shown = escaping.one_line(text, longest)
    assert len(shown) <= longest
    assert len(shown.splitlines()) <= 1
    whole = escaping.one_line(text)
    assert shown == whole or (whole.startswith(shown.split("…")[0]) and len(whole) > longest)


def test_markdown_has_no_tag_link_code_or_cell_in_it() -> None:
    assert escaping.markdown("<b>|`x`|[l](u)&amp;\\") == r"\<b\>\|\`x\`\|[l\](u)\&amp;\\"
    assert escaping.markdown("[+1.00, +2.00]") == "[+1.00, +2.00]"
    assert escaping.markdown("wrn16_2 + cutnmix, alpha=0.5") == "wrn16_2 + cutnmix, alpha=0.5"


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_computes_no_text(formula: str) -> None:
    assert escaping.cell(formula) == f"'{formula}"


@pytest.mark.parametrize("value", [-1.5, "a=1", "", None])
def test_numbers_and_other_texts_are_as_they_were(value: object) -> None:
    assert escaping.cell(value) is value


def test_an_error_is_the_end_of_what_a_process_printed_or_names_what_is_near() -> None:
    assert errors.last_line("Traceback:\n  File 'x'\nValueError: no\n\n") == "ValueError: no"
    assert errors.last_line("\n") == "it says nothing"
    for name, words in (("zebar", "did you mean 'zebra'?"), ("ox", "one of ape, zebra")):
        message = str(errors.unknown("animal", name, ["zebra", "ape"]))
        assert message == f"unknown animal '{name}': {words}"
