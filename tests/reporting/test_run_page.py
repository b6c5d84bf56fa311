"""The page of a run: all that its folder holds, as harmless text, and less where it holds less."""

import base64
import pathlib
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pandas as pd
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
        training=1.0,
        dataset=f"./{SCRIPT}",
    )
    probabilities = np.full((6, 4), 0.02)
    probabilities[np.arange(6), PREDICTED] = 0.94
    probabilities[1] = [0.2, 0.6, 0.1, 0.1]
    pixels = np.arange(6, dtype=np.uint8)[:, None, None, None] + np.zeros((6, 8, 8, 3), np.uint8)
    names = [str(folder / "mixed_batch.png"), "b", SCRIPT, "d", "e", "f"]
    images = Images(pixels, LABELS, tuple(NAMES), name=names.__getitem__)
    found = predictions.collect({"teacher": probabilities}, images, lambda p: p[..., 0] / 5)
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
    links = [pair for pair in found.attributes if pair[0].split(":")[-1] in ("src", "href")]
    for name, link in links:  # to a picture's file there is a link, which loads nothing
        assert str(link).startswith(("#", "data:image/") + ("file://",) * (name == "href"))
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
        r">(Term: \w+|Learning rate|Total training loss|Validation accuracy \(%\)|Cost)<", page
    )
    assert titles == [
        "Validation accuracy (%)",
        "Total training loss",
        "Term: cross_entropy",
        "Term: weight_decay",
        "Learning rate",
        "Cost",
    ]


def test_the_surest_mistake_comes_first_with_what_is_said_and_what_is_true(page: str) -> None:
    _, mistakes, _ = page.split("<section>")
    captions = re.findall(r"<figcaption>(predicted .*?)</figcaption>", mistakes)
    script = "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>"
    assert captions == [
        f'predicted {script}, 94.0%<br>is <bdi>cat (0)</bdi><br><span class="note">{script}</span>',
        f"predicted {script}, 60.0%<br>is <bdi>cat (0)</bdi><br>"
        '<span class="note"><bdi>b</bdi></span>',
    ]
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)" alt="test image (\d)"', mistakes)
    assert [position for _, position in pictures] == ["2", "1"]
    assert all(base64.b64decode(data).startswith(b"\x89PNG") for data, _ in pictures)


def test_a_mistake_is_linked_where_its_file_is_there(tmp_path: pathlib.Path) -> None:
    folder = complete(tmp_path / "a run")
    found = predictions.read(folder / "predictions.npz")
    names = found.names.copy()
    names[1] = names[0]
    predictions.save(folder / "predictions.npz", found._replace(names=names))
    page = run_page.write(folder, read_flags(folder / "flags.cfg")).read_text()
    links = re.findall(r'<a href="file://([^"]+)">', page)
    assert len(links) == 3  # image 1 is a mistake and an example, image 0 an example
    assert all(pathlib.Path(unquote(link)).is_file() for link in links)


def test_precision_recall_and_f1_by_class_are_counted(page: str) -> None:
    header, *found = rows(page, "Classes")
    assert header[3:6] == ["Precision", "Recall", "F1"]
    script = "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert found[0] == ["cat (0)", "9", "3", "100.0%", "33.3%", "50.0%", f"{script} (2)"]
    assert found[1] == [script, "8", "2", "50.0%", "100.0%", "66.7%", "—"]
    assert found[2][1:] == ["7", "1", "100.0%", "100.0%", "100.0%", "—"]
    assert len(found[2][0]) == 60
    assert found[3] == [r"\u202eflipped\n", "6", "0", "—", "—", "—", "—"]
    assert f"The weakest class is cat (0): add pictures of it that look like {script}." in page


def test_first_how_good_it_is_and_last_what_it_cost(page: str) -> None:
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "The teacher's most confident mistakes on the test images",
        "Confusion matrix of the teacher",
        *("Classes", "Examples", "Learning", "Calibration of the teacher", "The first batch"),
        *("Loss and learning rate", "Cost", "Versions", "The command"),
    ]


def test_every_picture_has_its_heat_and_a_switch_turns_it_off(page: str) -> None:
    assert page.count('<img class="heat"') == page.count('alt="test image') == 2 + 6
    assert page.count('<input type="checkbox" checked>') == 2
    assert page.count('<figure class="wrong">') == 4


def test_sentences_say_what_to_do(page: str) -> None:
    for words in (
        "100.0% of the training images, unmixed, and 50.0% of the test images correctly: more",
        "It is 88.3% sure on average, and 66.7% of its predictions are right: as far as 6 images",
    ):
        assert words in page


@pytest.mark.parametrize(
    ("sure", "part", "words"),
    [(0.99, 0.5, "ask for more confidence"), (0.55, 0.95, "trusted more than it says")],
)
def test_confidence_that_is_off_by_more_than_chance_is_told(sure, part, words) -> None:
    teacher = np.tile([sure, 1 - sure], (400, 1))
    assert words in run_page._how_sure(teacher, (np.arange(400) >= 400 * part).astype(int))


@pytest.mark.parametrize(("images", "said"), [(2000, False), (20, True)])
def test_too_few_validation_images_to_choose_by_are_told(images, said, tmp_path) -> None:
    """Accuracies of 50, 60 and 70 %: the last two differ by 10 points."""
    run = make_run(tmp_path / "run")
    curves = pd.DataFrame({"val_teacher_accuracy": [0.5, 0.6, 0.7]}, index=[1, 2, 3])
    run = run._replace(curves=curves, counts={"validation": (images,)})
    assert bool(run_page._few_to_choose_by(run)) == said


def test_facts_cost_command_and_first_batch_are_there(page: str) -> None:
    assert "<dt>Teacher, balanced over 3 of 4 classes</dt><dd>37.50%</dd>" in page
    assert "<dt>Best peer, chosen on validation</dt><dd>60.00%</dd>" in page
    assert "18.8% to 81.2% (95 % interval, 6 images)" in page
    assert "<dt>Best epoch</dt><dd>1 of 2</dd>" in page
    assert ["Whole run", "60 s"] in rows(page, "Cost")
    assert "python -m tf_cutnmix.train &#39;--dataset=./&lt;script&gt;" in page
    assert "/flags.cfg&#39; --workdir=runs/again" in page
    assert "The first batch" in page


def test_a_run_of_before_has_a_page_without_its_predictions(tmp_path: pathlib.Path) -> None:
    run = make_run(tmp_path / "run")
    page = run_page.page(run, run_page.content(run))
    assert "This run has no predictions.npz" in page
    assert "Classes" not in page
    assert "The first batch" not in page
    assert page.count("<svg") == 2


def test_without_a_name_and_a_count_for_each_class_they_have_numbers(tmp_path) -> None:
    run = read(complete(tmp_path / "run"), read_flags)
    shown = run_page.content(run._replace(class_names=("cat",), counts={"train": (3,)}))
    found = shown["classes"].cells.itertuples(index=False)
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
