"""The folder of somebody else's run: what reads it runs nothing of it and leaves it for nothing."""

import dataclasses
import os
import pathlib

import pytest

from tests.run_folders import write_run
from tf_cutnmix import command, export, report
from tf_cutnmix.errors import InputError, RunError
from tf_cutnmix.networks import served
from tf_cutnmix.reporting import run_page, runs
from tf_cutnmix.runs import exporting
from tf_cutnmix.runs.config import Config

HERE = pathlib.Path("run")
DIGIT = pathlib.Path(__file__).parents[1] / "docs" / "digit.png"


@pytest.fixture
def run(tmp_path, monkeypatch) -> pathlib.Path:
    """./run, a finished run, and beside it what it is to be kept from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "secret").mkdir()
    write_run(HERE, export="teacher")
    (HERE / "evil.py").write_text("open('ran', 'w')\n")
    return HERE


def read(flags: pathlib.Path) -> Config:
    return command.read(Config, flags)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--arch=run.evil:net", "run/flags.cfg has --arch=run.evil:net, .*: pass --trust_code"),
        ("--arch=resnet8,run.evil:net", "--arch=run.evil:net"),
        ("--method=kd\n--teacher=run/evil", "--teacher=run/evil"),
        ("--arch=run.evil:\x1b[2Jnet", r"run.evil:\\x1b"),
        ("--flagfile=/etc/passwd", "another file of flags"),
        ("-flagfile /etc/passwd", "another file of flags"),
    ],
)
def test_to_export_a_run_imports_and_reads_nothing_that_it_names(run, flags, words) -> None:
    with (run / "flags.cfg").open("a") as file:
        file.write(f"{flags}\n")
    with pytest.raises(InputError, match=words) as caught:
        export.main(export.Settings("run"))
    assert "root" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not pathlib.Path("ran").exists()


def test_what_names_no_setting_is_text(run) -> None:
    config = read(run / "flags.cfg")
    with (run / "flags.cfg").open("a") as file:
        file.write("--shear=1\n--arch\n-epochs=7\nroot:x:0:0\n# --seed=3\n--seed=4\n--undefok=x\n")
    assert read(run / "flags.cfg") == dataclasses.replace(config, seed=4)


def link(name: str) -> None:
    """Put a link to something elsewhere in a file's place."""
    path = HERE / name
    if path.exists():
        path.rename(pathlib.Path("secret") / path.name)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(pathlib.Path("secret", path.name).absolute())


DOORS = {
    "report": lambda: runs.read(HERE, read),
    "page": lambda: run_page.content(runs.read(HERE, read)),
    "export": lambda: export.config_of(export.Settings("run")),
    "result": lambda: exporting._result(HERE),
    "checkpoint": lambda: exporting._checkpoint(HERE),
    "savedmodel": lambda: served.load("run", "savedmodel"),
}


@pytest.mark.parametrize(
    ("door", "name"),
    [
        *(("report", name) for name in ("flags.cfg", "metrics.jsonl", "result.json")),
        ("page", "predictions.npz"),
        ("export", "flags.cfg"),
        ("result", "result.json"),
        ("checkpoint", "checkpoints"),
        ("checkpoint", "checkpoints/00000002-00000000.npz"),
        ("savedmodel", "result.json"),
    ],
)
def test_a_link_out_of_the_run_is_not_followed(run, door, name) -> None:
    link(name)
    with pytest.raises(RunError, match=rf"run/{name} leads out of run and is not followed"):
        DOORS[door]()


def test_a_picture_that_is_a_link_out_of_the_run_is_not_shown(run) -> None:
    link("mixed_batch.png")
    pathlib.Path("secret/mixed_batch.png").write_bytes(DIGIT.read_bytes())
    assert DOORS["page"]()["mixed_batch"] is None


def test_a_folder_of_runs_and_a_run_may_be_links_themselves(run, capsys) -> None:
    os.rename("run", "secret/run")
    pathlib.Path("runs").symlink_to("secret")
    pathlib.Path("run").symlink_to("runs/run")
    assert runs.read(HERE, read).figures
    assert export.config_of(export.Settings("runs/run")).exports == ("teacher",)
    report.main(report.Settings(("runs",)))
    assert capsys.readouterr().out.startswith("Runs: 1 of 1.")
