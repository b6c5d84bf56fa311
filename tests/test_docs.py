"""What the README and the guides show works: Python and commands run, files and links are there.

A page's blocks run in their order, in one folder; one that begins with a file's name is also that
file. A command that trains does so on a few of the images that it names, for a step; one that needs
a download, or makes many runs, is parsed and checked. All run without graphs, which take longer to
build than a step takes.
"""

import contextlib
import importlib
import io
import os
import pathlib
import re
import runpy
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.processes import python
from tests.tiny_peers import tiny_peer
from tf_cutnmix import (
    Config,
    CutNMix,
    Method,
    OnlineDistiller,
    command,
    evaluate,
    export,
    predict,
    report,
    share_stages,
    sweep,
    train,
)
from tf_cutnmix.distillation.method import METHODS
from tf_cutnmix.mixing.augment import AUGMENTATIONS
from tf_cutnmix.mixing.layers import MIXINGS
from tf_cutnmix.runs.build import check_names

ROOT = pathlib.Path(__file__).parents[1]
GUIDES = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
PAGES = ("README.md", "CONTRIBUTING.md", *GUIDES)
SETTINGS = {
    "tf_cutnmix.train": Config,
    "tf_cutnmix.evaluate": evaluate.Settings,
    "tf_cutnmix.predict": predict.Settings,
    "tf_cutnmix.export": export.Settings,
    "tf_cutnmix.try": importlib.import_module("tf_cutnmix.try").Settings,
    "tf_cutnmix.sweep": sweep.Settings,
    "tf_cutnmix.report": report.Settings,
}
# What a page says of these wins.
SMALL = ("--train_split=train[:40]", "--test_split=test[:10]", "--batch_size=16")
PRESENT = ("digits", "./pictures")
MANY_RUNS = 4


def blocks(page: str) -> list[tuple[str, str]]:
    """Each fenced block of a page: its language and its text."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def shell_commands(text: str) -> list[list[str]]:
    """The commands of this package in a shell block, as their words from the module on."""
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    wholes = [words[words.index("-m") + 1 :] for words in lines if "-m" in words]
    return [words for words in wholes if words[0].startswith("tf_cutnmix.")]


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The current folder, with what a clone has that pages name, and pictures of two classes."""
    shutil.copytree(ROOT / "savedmodels", tmp_path / "savedmodels")
    for name in ("configs", "docs", "studies"):
        (tmp_path / name).symlink_to(ROOT / name)
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(30):
            picture = tf.io.encode_png(generator.integers(0, 256, (10, 12, 3)).astype("uint8"))
            path = tmp_path / "pictures" / name / f"{number:02}.png"
            path.write_bytes(picture.numpy())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def added_methods() -> Iterator[set[str]]:
    """The names of the methods that a page defines, known until the test is over."""
    before = dict(METHODS)
    added: set[str] = set()
    yield added
    METHODS.clear()
    METHODS.update(before)


@pytest.mark.long
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_runs_in_order(page, folder, monkeypatch, added_methods):
    shown = blocks(page)
    assert shown or page == "CONTRIBUTING.md"
    known, namespace = set(METHODS), {}
    for language, text in shown:
        if language == "python":
            if file := re.match(r"# (\w+\.py)\n", text):
                (folder / file[1]).write_text(text)
            exec(compile(text, page, "exec"), namespace)
        elif language == "bash":
            for words in shell_commands(text):
                run_or_check(words, monkeypatch)
        else:
            pytest.fail(f"{page} has a block that no test runs: {text}")
    added_methods |= set(METHODS) - known
    for name in added_methods:
        check_that_it_trains(name)


def run_or_check(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command in this process, smaller, or check its flags where it would take too long."""
    module, *arguments = words
    if "--help" in arguments:
        assert "--dataset" in output_of(module, arguments, monkeypatch)
        return
    settings = command.parse(SETTINGS[module], arguments)
    if module in ("tf_cutnmix.export", "tf_cutnmix.try"):
        return  # One needs a run, which test_export has; the other goes on until it is ended.
    if module not in ("tf_cutnmix.train", "tf_cutnmix.sweep"):
        output_of(module, arguments, monkeypatch)
        return
    swept = module == "tf_cutnmix.sweep"
    configs = list(sweep.make_configs(settings).values()) if swept else [settings]
    for config in configs:
        check_names(config)
    if settings.dataset not in PRESENT or len(configs) > MANY_RUNS:
        return
    small = [*SMALL, *arguments, "--steps=1"]
    if not any(argument.startswith("--export=") for argument in arguments):
        small.append("--export=")
        if not any(argument.startswith("--flagfile=") for argument in arguments):
            small.insert(0, "--arch=tiny_networks:tiny")  # as nothing goes on from it
    if all(_may_be_alone(config) for config in configs):
        small.insert(0, "--num_peers=1")
    if not swept:
        assert "test accuracy" in output_of(module, small, monkeypatch)
        return
    # How a sweep makes its runs, each in a process, is what test_sweep is about.
    for config in sweep.make_configs(command.parse(sweep.Settings, small)).values():
        train.main(config)


def _may_be_alone(config: Config) -> bool:
    between = {"feature", "mutual"} & set(config.term_weights)
    return Method(config.method).recipe.min_peers == 1 and "," not in config.arch and not between


def output_of(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What `python -m module` prints when it ends well."""
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'tf_cutnmix.*' found in sys.modules")
        with pytest.raises(SystemExit) as end:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert end.value.code == 0, f"python -m {module} {shlex.join(arguments)}"
    return printed.getvalue()


def check_that_it_trains(name: str) -> None:
    model = OnlineDistiller(
        [tiny_peer(), tiny_peer()], CutNMix(2, num_classes=10, seed=0), Method(name, ramp_steps=0)
    )
    model.compile(keras.optimizers.SGD(0.01))
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)).astype("uint8")
    logs: dict[str, Any] = model.train_on_batch(images, np.arange(8), return_dict=True)
    terms = [logs[term] for term in model.term_names]
    assert len(terms) > 1
    assert min(terms) > 0
    assert logs["loss"] == pytest.approx(sum(terms), rel=1e-5)


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md", "savedmodels/README.md"])
def test_the_links_of_a_page_and_the_files_that_it_names_are_there(page):
    text = (ROOT / page).read_text()
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in link]
    missing = [link for link in links if not ((ROOT / page).parent / link).exists()]
    folders = "benchmarks|configs|docs|studies|tests|tf_cutnmix|savedmodels/digits_resnet8(?=/)"
    named = re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./-]*\w)", text)
    missing += [name for name in named if not (ROOT / name).exists()]
    assert missing == []


def test_the_readme_is_the_page_of_a_newcomer_from_which_every_guide_is_reached():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 160
    assert re.search(r"!\[.+\]\(docs/cutnmix.png\)", readme)
    for words in (
        "pip install . && python -m tf_cutnmix.train --dataset=digits --epochs=100",
        'pip install ".[test]" && pytest',
    ):
        assert f"```bash\n{words}\n```" in readme
    assert GUIDES
    assert set(GUIDES) <= set(re.findall(r"\]\((.+?)\)", readme))


@pytest.mark.long
def test_the_file_that_contributors_are_shown_is_all_that_a_method_needs(tmp_path):
    """That it trains is tested above, with what other pages show."""
    ((_, example),) = [block for block in blocks("CONTRIBUTING.md") if block[0] == "python"]
    shutil.copytree(ROOT / "tf_cutnmix", tmp_path / "tf_cutnmix")
    methods = tmp_path / "tf_cutnmix" / "distillation" / "methods"
    (methods / "consensus_of_all.py").write_text(example)
    code = "import tf_cutnmix; print(tf_cutnmix.Method('consensus_of_all'))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    found = python("-c", code, cwd=tmp_path, env=environment)
    assert "temperature=2.0" in found.stdout


def test_every_name_is_on_a_page():
    text = "".join((ROOT / page).read_text() for page in ("README.md", *GUIDES))
    for name in (*METHODS, *MIXINGS, *AUGMENTATIONS):
        assert f"`{name}`" in text


def test_the_tables_of_methods_are_those_of_the_package():
    page = (ROOT / "docs" / "methods_and_networks.md").read_text()
    peers, terms_of = {}, {}
    for names, least, shares in re.findall(r"^\| (`.+?) \| (\d)\+(, sharing)? \|", page, re.M):
        peers |= dict.fromkeys(re.findall(r"`(\w+)`", names), (int(least), bool(shares)))
    assert peers == {name: (r.min_peers, r.shares) for name, r in METHODS.items()}
    for names, terms, temperature in re.findall(r"^\| (`.+?) \| (.+) \| ?(\d?) \|$", page, re.M):
        terms_of |= dict.fromkeys(re.findall(r"`(\w+)`", names), (terms, temperature))
    alone = [tiny_peer() for _ in range(3)]
    sharing = share_stages(alone, "stage1")
    teacher = str(ROOT / "savedmodels" / "digits_resnet8" / "1")
    assert set(terms_of) == set(METHODS)
    for name, recipe in METHODS.items():
        method = Method(name, batch_size=8, teacher=teacher)
        terms = recipe.terms(method, sharing if recipe.shares else alone)
        words = [
            (f"*`{term.name}`*" if term.ramped else f"`{term.name}`")
            + (f" (weight {term.weight:g})" if term.weight != 1 else "")
            for term in terms
        ]
        expected = (", ".join(words) or "none", f"{recipe.temperature:g}" if terms else "")
        assert terms_of[name] == expected, name
