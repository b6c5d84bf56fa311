"""Answers with the names that nobody should choose, read back from each document."""

import csv
import io
import json
import pathlib
from html.parser import HTMLParser

from PIL import Image

from tf_cutnmix.predicting import documents
from tf_cutnmix.predicting.answers import Answer

SCRIPT = "<script>alert(1)</script>"
ANSWERS = [
    Answer(pathlib.Path("a/cat.png"), (("cat", 0.75), (SCRIPT, 0.2), ("=1+1", 0.05))),
    Answer(pathlib.Path("=cmd|' /C calc'!A0"), (("=1+1", 0.5), ("two\nlines", 0.3), ("x", 0.2))),
    Answer(pathlib.Path("\u202egnp.exe"), (("ב" * 300, 1.0), ("cat", 0.0), ("x", 0.0))),
    Answer(pathlib.Path("-broken\n.png"), problem="it is no picture"),
]


class Reader(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_table_has_a_line_of_moderate_length_for_each_file_that_was_read() -> None:
    header, *lines = documents.table(ANSWERS).splitlines()
    assert header.split() == ["file", "class", "probability", "or", "else"]
    assert len(lines) == 3
    assert lines[0].split() == ["a/cat.png", "cat", "75.0%", SCRIPT, "20.0%,", "=1+1", "5.0%"]
    assert r"two\nlines 30.0%" in lines[1]
    assert lines[2].startswith(r"\u202egnp.exe")
    assert len(lines[2]) < 160
    assert len({line.index("%") for line in lines}) == 1


def test_csv_parses_back_and_computes_nothing() -> None:
    rows = list(csv.DictReader(io.StringIO(documents.as_csv(ANSWERS))))
    assert len(rows) == 4
    assert rows[0]["file"] == "a/cat.png"
    assert (rows[0]["class_1"], float(rows[0]["probability_1"])) == ("cat", 0.75)
    assert (rows[0]["class_3"], rows[1]["class_1"]) == ("'=1+1", "'=1+1")
    assert rows[1]["class_2"] == "two\nlines"
    assert rows[3]["problem"] == "it is no picture"
    assert rows[3]["class_1"] == ""
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_json_holds_the_names_as_they_are() -> None:
    first, second, third, broken = json.loads(documents.as_json(ANSWERS))
    assert first["classes"][1] == {"class": SCRIPT, "probability": 0.2}
    assert second["file"] == "=cmd|' /C calc'!A0"
    assert third["classes"][0]["class"] == "ב" * 300
    assert broken == {"file": "-broken\n.png", "problem": "it is no picture"}


def test_the_page_shows_pictures_and_names_and_loads_nothing(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "<img src=x onerror=alert(1)>.png"
    Image.new("RGB", (20, 10), "red").save(path)
    page = Reader(documents.page([*ANSWERS, ANSWERS[0]._replace(path=path)], f"{SCRIPT}/1"))
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert page.tags.count("figure") == 4
    (picture,) = page.links
    assert picture.startswith("data:image/jpeg;base64,")
    assert SCRIPT in page.texts
    assert r"-broken\n.png: it is no picture" in page.texts
    assert "Its picture cannot be shown." in page.texts
    assert r"\u202egnp.exe" in page.texts
    assert page.tags.count("bdi") > 12
