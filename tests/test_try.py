"""The command try: its page, in a browser where there is one."""

import importlib
import importlib.util
import pathlib
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from tests.serving.test_signatures import random_images, sure_network
from tf_cutnmix import command, predicting
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import served
from tf_cutnmix.serving import export

door = importlib.import_module("tf_cutnmix.try")  # a word of Python's
NAMES = [f"class {k}" for k in range(9)] + ["<b>ten"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("exports") / "tiny"
    return export([sure_network(0)], folder, NAMES, random_images(4, 8, 8, 3))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("pictures") / "one.png"
    path.write_bytes(tf.io.encode_png(random_images(30, 20, 3)).numpy())
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--savedmodel is missing"),
        (["--savedmodel=nowhere"], "no such folder"),
        (["--savedmodel=nowhere", "--port=70000"], "from 0 to 65,535"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(arguments: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        door.main(command.parse(door.Settings, arguments))


@pytest.mark.long
def test_without_gradio_it_says_what_to_install(exported, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'tf_cutnmix\[demo\]'"):
        door.main(door.Settings(savedmodel=str(exported)))


@pytest.mark.long
def test_it_answers_as_predict_does_with_the_picture_below_its_heat_map(exported, picture) -> None:
    gradio = pytest.importorskip("gradio")
    demo = importlib.import_module("tf_cutnmix.demo")
    export = served.load(str(exported), "savedmodel")
    (expected,) = predicting.ask(export, [picture], batch_size=1)
    classes, shown = demo.answer(export, str(picture))
    assert classes == dict(expected.classes)
    assert shown.size == (320, 480)
    picture.with_name("none.png").write_text("no picture")
    with pytest.raises(gradio.Error, match="no picture"):
        demo.answer(export, str(picture.with_name("none.png")))


@pytest.mark.long
def test_a_browser_shows_the_answer_and_asks_nobody_else(exported, picture, tmp_path) -> None:
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or pytest.skip("no chromium")
    order = [sys.executable, "-m", "tf_cutnmix.try", f"--savedmodel={exported}"]
    with subprocess.Popen(order, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().split()[1]
            with playwright.sync_playwright() as started:
                browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                page, asked = browser.new_page(), set()
                page.on("request", lambda request: asked.add(request.url.split("/")[2]))
                page.goto(address)
                page.set_input_files("input[type=file]", picture)
                page.wait_for_selector("[data-testid=label-output-value]", timeout=60_000)
                page.wait_for_selector("img[src*='gradio_api/file']", timeout=60_000)
                (best, _), *_ = predicting_of(exported, picture)
                assert page.inner_text("[data-testid=label-output-value]") == best
                assert page.locator("button[aria-label='Capture from camera']").count() == 1
                assert page.locator("button[aria-label='Share']").count() == 0
        finally:
            process.terminate()
    assert asked - {""} == {address.split("/")[2]}
    assert process.returncode == 143


def predicting_of(exported: pathlib.Path, picture: pathlib.Path) -> tuple[tuple[str, float], ...]:
    (found,) = predicting.ask(served.load(str(exported), "savedmodel"), [picture], batch_size=1)
    return found.classes
