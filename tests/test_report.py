"""The report command: from folders of runs to four files, and one line for each trouble."""

import csv
import pathlib
import re
import subprocess

import pytest

from tests.processes import python
from tests.run_folders import write_run
from tf_cutnmix import command, report
from tf_cutnmix.errors import InputError
from tf_cutnmix.report import Settings

NAMES = ["report.csv", "report.html", "report.md", "runs/1.html", "runs/2.html", "summary.csv"]
OURS = {"method": "cutnmix", "mix": "cutnmix"}


def parse(*arguments: str) -> Settings:
    return command.parse(Settings, arguments)


def refusal(*arguments: str) -> str:
    with pytest.raises(InputError) as caught:
        report.main(parse(*arguments))
    return str(caught.value)


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Two groups of three seeds in ./runs."""
    monkeypatch.chdir(tmp_path)
    for seed, accuracy in enumerate((0.50, 0.52, 0.54)):
        write_run(pathlib.Path(f"runs/base{seed}"), seed=seed, teacher=accuracy)
        write_run(pathlib.Path(f"runs/ours/{seed}"), seed=seed, teacher=accuracy + 0.01, **OURS)
    return tmp_path


def test_a_report_is_four_files_and_a_page_for_each_best_run_without_one(
    place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = []
    for _ in range(2):
        report.main(parse("runs"))
        found = sorted(path for path in (place / "report").rglob("*") if path.is_file())
        contents.append([path.read_bytes() for path in found])
    assert [str(path.relative_to(place / "report")) for path in found] == NAMES
    assert contents[0] == contents[1]
    text = (place / "report/report.md").read_text()
    text = re.sub(" +", " ", text)
    assert "| cutnmix | 3 | 53.00 ± 2.00 | 70.00 ± 0.00 | 50.00 ± 0.00 |" in text
    assert "| independent + cutmix | 3 | +1.00 | no spread |" in text
    stdout, stderr = capsys.readouterr()
    assert stdout.endswith("report: report/report.html\n")
    assert stderr == ""


BROKEN = (
    ("flags.cfg", "--flagfile=/etc/passwd"),
    ("flags.cfg", "--epochs=99999999999999999999"),
    ("metrics.jsonl", '{"epoch": Infinity, "loss": 1}'),
    ("metrics.jsonl", '{"epoch": 1, "loss": 1e308}\n{"epoch": 2, "loss": 1e308}'),
    ("metrics.jsonl", '{"epoch": 1, "val_peer1_accuracy": 1e308, "val_peer2_accuracy": 1e308}'),
    ("result.json", "[" * 100_000),
    ("result.json", '{"versions": {"python": "\\ud800"}}'),
)


def test_broken_and_hostile_runs_are_a_line_each_and_the_rest_goes_on(
    place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (name, content) in enumerate(BROKEN):
        (write_run(place / f"runs/broken{number}", seed=9) / name).write_text(content)
    unwritable = write_run(place / "runs/broken7", seed=9) / "result.json"
    unwritable.write_text(unwritable.read_text().replace("2.21.0", "\\ud800"))
    (place / "runs/base1/flags.cfg").unlink()
    (place / "runs/ours/2/result.json").unlink()
    report.main(parse("runs"))
    base, *broken, unfinished, base_lacks, ours_lacks = capsys.readouterr().err.splitlines()
    assert base.startswith("warning: broken: runs/base1 has no flags.cfg")
    assert len(broken) == len(BROKEN) + 1
    for number, line in enumerate(broken):
        assert line.startswith(f"warning: broken: runs/broken{number}")
        assert "root" not in line
    assert unfinished == "warning: unfinished: runs/ours/2 has no result.json after 2 of 2 epochs"
    assert base_lacks.startswith("warning: missing seeds: ")
    assert ours_lacks.startswith("warning: missing seeds: ")
    text = (place / "report/report.md").read_text()
    assert "Runs: 4 of 14." in text
    assert f"- {unfinished.removeprefix('warning: ')}\n" in text


def test_a_baseline_may_be_named_and_accuracy_drawn_across_a_setting(place: pathlib.Path) -> None:
    for epochs, accuracy in ((4, 0.6), (8, 0.7)):
        write_run(pathlib.Path(f"runs/longer{epochs}"), epochs=epochs, teacher=accuracy)
    baseline = "--baseline=mix=cutnmix, method=cutnmix,alpha=1"
    report.main(parse("runs", baseline, "--across=epochs"))
    with open("report/summary.csv") as file:
        base, ours, *_ = csv.DictReader(file)
    assert (base["baseline"], ours["baseline"]) == ("cutnmix, epochs=2", "baseline")
    assert float(base["teacher_difference"]) == pytest.approx(-0.01)
    text = re.sub(" +", " ", (place / "report/report.md").read_text())
    for epochs, seeds, accuracy in ((2, 3, 52), (4, 1, 60), (8, 1, 70)):
        assert f"\n| independent + cutmix | {epochs} | {seeds} | {accuracy}.00 |" in text
    assert "not drawn across epochs: cutnmix, which has fewer than 3 values" in text
    assert "best epoch across epochs" in (place / "report/report.html").read_text()


# Bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "RUNS is missing"),
        (("nowhere",), "nowhere: there is no such folder"),
        (("runs", "empty"), "empty holds no run"),
        (("runs", "--out=file"), "--out=file is a file"),
        (("runs", "--out=file/deeper"), "--out=file/deeper cannot be written"),
        (("runs", "--across=epoch"), "setting in --across 'epoch': did you mean 'epochs'?"),
        (("runs", "--baseline=metod=independent"), "'metod': did you mean 'method'?"),
        (("runs", "--baseline=seed=1"), "unknown setting in --baseline 'seed'"),
        (("runs", "--baseline=independent"), "'independent' is not of the form setting=value"),
        (("runs", "--baseline=epochs=many"), "epochs"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_written(
    arguments: tuple[str, ...], words: str, place: pathlib.Path
) -> None:
    (place / "empty").mkdir()
    (place / "file").write_text("content")
    before = sorted(place.rglob("*"))
    message = refusal(*arguments)
    assert words in message
    assert "\n" not in message
    assert sorted(place.rglob("*")) == before


def test_without_a_run_that_can_be_used_there_is_no_report(
    place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in place.rglob("result.json"):
        path.unlink()
    assert refusal("runs") == "none of 6 runs in runs can be used"
    assert capsys.readouterr().err.count("warning: unfinished: ") == 6
    assert not (place / "report").exists()


# The command


def imported(process: subprocess.CompletedProcess[str]) -> set[str]:
    """The packages that a process imports, which ran with -X importtime."""
    return {line.split("|")[-1].strip().split(".")[0] for line in process.stderr.splitlines()}


def test_the_command_reports_without_tensorflow(place: pathlib.Path) -> None:
    process = python("-X", "importtime", "-m", "tf_cutnmix.report", "runs", cwd=place)
    assert process.returncode == 0, process.stderr
    assert {"numpy", "scipy", "matplotlib", "pandas"} <= imported(process)
    assert imported(process).isdisjoint({"tensorflow", "keras", "sklearn"})
