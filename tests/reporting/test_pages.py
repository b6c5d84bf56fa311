"""Pages: one file that loads nothing, whatever is written into it."""

import base64
from html.parser import HTMLParser

import pytest

from tf_cutnmix.reporting import pages

HOSTILE = '"><script>alert(1)</script>\n\u202e'


class Reader(HTMLParser):
    """The tags of a page, their attributes and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_is_whole_and_light_or_dark() -> None:
    page = pages.page("a < b", ["<p>one</p>", "<p>two</p>"])
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>a &lt; b</title>" in page
    assert "prefers-color-scheme: dark" in page
    assert '<meta name="viewport" content="width=device-width' in page
    assert page.index("<p>one</p>") < page.index("<p>two</p>")
    assert "@import" not in page
    assert "url(" not in page


@pytest.mark.parametrize(
    "element",
    [
        pages.name(HOSTILE),
        pages.heading(HOSTILE),
        pages.code([HOSTILE]),
        pages.warnings([HOSTILE]),
        pages.picture(b"content", "png", HOSTILE),
        pages.page(HOSTILE, []),
    ],
)
def test_a_name_is_text_in_one_line_wherever_it_stands(element: str) -> None:
    found = Reader(element)
    assert "script" not in found.tags
    shown = found.text + "".join(value or "" for _, value in found.attributes)
    assert r'"><script>alert(1)</script>\n\u202e' in shown


def test_a_picture_is_in_the_page() -> None:
    found = dict(Reader(pages.picture(b"\x89PNG", "png", "a cat")).attributes)
    kind, _, content = str(found["src"]).partition(",")
    assert (kind, base64.b64decode(content)) == ("data:image/png;base64", b"\x89PNG")
    assert found["alt"] == "a cat"


def test_without_warnings_it_is_said_that_there_are_none() -> None:
    assert "None." in pages.warnings([])
    assert "quiet" in pages.warnings([])
    assert "quiet" not in pages.warnings(["one"])
