"""The page of a run: all that its folder holds, as harmless text, and less where it holds less."""

import base64
import pathlib
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from tests.run_folders import make_run, read_flags, write_run
from tf_cutnmix.data import Images
from tf_cutnmix.errors import RunError
from tf_cutnmix.reporting import pages, run_page
from tf_cutnmix.reporting.runs import read
from tf_cutnmix.runs import predictions

SCRIPT = "<script>alert(1)</script>"
NAMES = ["cat (0)", SCRIPT, "x" * 300, "\u202eflipped\n"]
LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 1, 1, 1, 1, 2])
TERMS = {"cross_entropy": 2.0, "weight_decay": 0.5, "learning_rate": 0.1, "region_overlap": 0.3}


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


def complete(folder: pathlib.Path) -> pathlib.Path:
    """The folder of a run as it is now, with names that nobody should choose."""
    counts = {"train": [9, 8, 7, 6], "validation": [1, 1, 1, 1], "test": [3, 2, 1, 0]}
    write_run(
        folder,
        result={"class_names": NAMES, "counts": counts},
        row=TERMS,
        test={"teacher_balanced_accuracy": 0.375},
        dataset=f"./{SCRIPT}",
    )
    probabilities = np.full((6, 4), 0.02)
    probabilities[np.arange(6), PREDICTED] = 0.94
    probabilities[1] = [0.2, 0.6, 0.1, 0.1]
    pixels = np.arange(6, dtype=np.uint8)[:, None, None, None] + np.zeros((6, 8, 8, 3), np.uint8)
    names = [str(folder / "mixed_batch.png"), "b", SCRIPT, "d", "e", "f"]
    images = Images(pixels, LABELS, tuple(NAMES), name=names.__getitem__)
    found = predictions.collect({"teacher": probabilities}, images)
    predictions.save(folder / "predictions.npz", found)
    Image.new("RGB", (30, 20), "red").save(folder / "mixed_batch.png")
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = complete(tmp_path_factory.mktemp("runs") / "<b>run")
    config = read_flags(folder / "flags.cfg")
    return run_page.write(folder, config).read_text()


def rows(page: str, title: str) -> list[list[str]]:
    table = page.split(f"<h2>{title}</h2>")[1].split("</table>")[0]
    lines = re.findall(r"<tr.*?>(.*?)</tr>", table, re.DOTALL)
    return [re.findall(r"<t[dh]>(.*?)</t[dh]>", line) for line in lines]


def test_the_page_loads_nothing_and_runs_nothing(page: str) -> None:
    found = Reader(page)
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    links = [v for name, v in found.attributes if name.split(":")[-1] in ("src", "href")]
    assert all(str(link).startswith(("#", "data:image/")) for link in links)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "\u202e" not in page
    assert f"./{SCRIPT}" in found.text
    assert page.startswith("<!DOCTYPE html>")
    assert "prefers-color-scheme: dark" in page
    assert '<meta name="viewport" content="width=device-width' in page
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_every_term_and_the_accuracies_have_a_curve(page: str) -> None:
    titles = re.findall(
        r">(Term: \w+|Learning rate|Total training loss|Validation accuracy \(%\))<", page
    )
    assert titles == [
        "Validation accuracy (%)",
        "Total training loss",
        "Term: cross_entropy",
        "Term: weight_decay",
        "Learning rate",
    ]


def test_the_surest_mistake_comes_first_with_what_is_said_and_what_is_true(page: str) -> None:
    captions = re.findall(r"<figcaption>(predicted .*?)</figcaption>", page)
    script = "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>"
    assert captions == [
        f'predicted {script}, 94.0%<br>is <bdi>cat (0)</bdi><br><span class="note">{script}</span>',
        f"predicted {script}, 60.0%<br>is <bdi>cat (0)</bdi><br>"
        '<span class="note"><bdi>b</bdi></span>',
    ]
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)" alt="test image (\d)"', page)
    assert [position for _, position in pictures] == ["2", "1"]
    assert all(base64.b64decode(data).startswith(b"\x89PNG") for data, _ in pictures)


def test_a_mistake_is_linked_where_its_file_is_there(tmp_path: pathlib.Path) -> None:
    folder = complete(tmp_path / "a run")
    found = predictions.read(folder / "predictions.npz")
    names = found.names.copy()
    names[1] = names[0]
    predictions.save(folder / "predictions.npz", found._replace(names=names))
    page = run_page.write(folder, read_flags(folder / "flags.cfg")).read_text()
    (link,) = re.findall(r'<a href="file://([^"]+)">', page)
    assert pathlib.Path(unquote(link)).is_file()


def test_recall_by_class_is_counted(page: str) -> None:
    header, *found = rows(page, "Recall by class")
    assert header[0] == "Class"
    script = "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert found[0] == ["cat (0)", "9", "3", "33.3%", f"{script} (2)"]
    assert found[1] == [script, "8", "2", "100.0%", "—"]
    assert found[2][1:] == ["7", "1", "100.0%", "—"]
    assert len(found[2][0]) == 60
    assert found[3] == [r"\u202eflipped\n", "6", "0", "—", "—"]


def test_facts_cost_command_and_first_batch_are_there(page: str) -> None:
    assert "<dt>Teacher, balanced over 3 of 4 classes</dt><dd>37.50%</dd>" in page
    assert "<dt>Best epoch</dt><dd>1 of 2</dd>" in page
    assert ["Whole run", "60 s"] in rows(page, "Cost")
    assert "python -m tf_cutnmix.train &#39;--dataset=./&lt;script&gt;" in page
    assert "/flags.cfg&#39; --workdir=runs/again" in page
    assert "The first batch" in page


def test_a_run_of_before_has_a_page_without_its_predictions(tmp_path: pathlib.Path) -> None:
    run = make_run(tmp_path / "run")
    page = run_page.page(run, run_page.content(run))
    assert "This run has no predictions.npz" in page
    assert "Recall by class" not in page
    assert "The first batch" not in page
    assert page.count("<svg") == 2


def test_without_a_name_and_a_count_for_each_class_they_have_numbers(tmp_path) -> None:
    run = read(complete(tmp_path / "run"), read_flags)
    shown = run_page.content(run._replace(class_names=("cat",), counts={"train": (3,)}))
    found = shown["recall"].cells.itertuples(index=False)
    assert [row[:2] for row in found] == [("0", "—"), ("1", "—"), ("2", "—"), ("3", "—")]


def test_damaged_predictions_are_an_error_and_a_damaged_picture_is_left_out(tmp_path) -> None:
    folder = complete(tmp_path / "run")
    (folder / "mixed_batch.png").write_bytes(b"no picture")
    assert (
        "The first batch"
        not in run_page.write(folder, read_flags(folder / "flags.cfg")).read_text()
    )
    (folder / "predictions.npz").write_bytes(b"no archive")
    with pytest.raises(RunError, match="cannot read"):
        run_page.content(read(folder, read_flags))


HOSTILE = '"><script>alert(1)</script>\n\u202e'


@pytest.mark.parametrize("warnings", [[], [HOSTILE]])
def test_a_name_is_text_in_one_line_wherever_it_stands(warnings: list[str]) -> None:
    given = {"title": HOSTILE, "summary": HOSTILE, "plots": [(HOSTILE, "<svg></svg>", HOSTILE)]}
    rest = {"warnings": warnings, "shown": [], "tables": [], "common": [HOSTILE]}
    found = Reader(pages.render("report.html", **given, **rest))
    assert "script" not in found.tags
    assert "svg" in found.tags
    shown = r'"><script>alert(1)</script>\n\u202e'
    assert found.text.count(shown) == 5 + len(warnings)
    assert ("None." in found.text) == (("class", "warnings quiet") in found.attributes)
    assert ("None." in found.text) == (not warnings)
