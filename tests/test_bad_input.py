"""Bad input: one clear line on stderr, exit code 1, nothing written."""

import contextlib
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tensorflow as tf

from tf_cutnmix import command, evaluate, export, predict, report, sweep, train
from tf_cutnmix.runs import checkpoints
from tf_cutnmix.runs.config import Config

# A graph takes longer to build than the few steps here take.
pytestmark = pytest.mark.usefixtures("all_eagerly")

EXPORT = pathlib.Path(__file__).parents[1] / "savedmodels" / "digits_resnet8" / "1"
DIGIT = str(pathlib.Path(__file__).parents[1] / "docs" / "digit.png")

COMMANDS = {
    "train": (train.SUMMARY, Config, train.main),
    **{
        door.__name__.rpartition(".")[2]: (door.SUMMARY, door.Settings, door.main)
        for door in (evaluate, export, predict, report, sweep)
    },
}
SETTINGS = (
    "--arch=tiny_networks:tiny",
    "--workdir=run",
    "--epochs=2",
    "--batch_size=8",
    "--validation_fraction=0.25",
    "--num_peers=1",
    "--mix=none",
    "--method=independent",
    "--export_dir=exports",
)
PETS = ("--dataset=./pets", *SETTINGS)
# Without pictures to decode, which takes longer than the run.
DIGITS = ("--dataset=digits", "--train_split=train[:40]", "--test_split=test[:10]", *SETTINGS)

Refuse = Callable[..., str]


def contents(folder: pathlib.Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def call(name: str, *arguments: str) -> int:
    """Run a command in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        return command.run(f"tf_cutnmix.{name}", *COMMANDS[name])


def the_line(stderr: str) -> str:
    """What one line, and no more, says after "error: "."""
    assert stderr.startswith("error: ")
    assert stderr.endswith("\n")
    assert len(stderr.splitlines()) == 1
    return stderr.removeprefix("error: ").strip()


def write_images(folder: pathlib.Path, count: int, size: tuple[int, int] = (8, 8)) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(len(folder.name))
    for number in range(count):
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        (folder / f"{number:02d}.png").write_bytes(tf.io.encode_png(pixels).numpy())


def fill(file: str) -> None:
    with open(file, "wb", buffering=0) as filling:
        while True:
            filling.write(bytes(1024))


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes: the system refuses, as where a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path) -> Iterator[pathlib.Path]:
    """A file system of 8 MiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield disk
    os.chdir("/")
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def refuse(tmp_path, monkeypatch, capfd) -> Refuse:
    """Runs a command that must fail; returns what its line says. Nothing may be written."""
    monkeypatch.chdir(tmp_path)

    def refused(name: str, *arguments: str) -> str:
        before = contents(tmp_path)
        capfd.readouterr()
        code = call(name, *arguments)
        stdout, stderr = capfd.readouterr()
        assert code == 1
        assert stdout == ""
        assert contents(tmp_path) == before
        return the_line(stderr)

    return refused


@pytest.fixture
def pets(tmp_path) -> pathlib.Path:
    for name in ("cats", "dogs"):
        write_images(tmp_path / "pets" / name, 10)
    return tmp_path / "pets"


@pytest.fixture(scope="module")
def begun_once(tmp_path_factory) -> pathlib.Path:
    """A folder with a data set of two classes, a run on it after one of two epochs, an export."""
    folder = tmp_path_factory.mktemp("begun")
    for name in ("cats", "dogs"):
        write_images(folder / "pets" / name, 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call("train", *PETS, "--steps=3", "--export=teacher") == 0
    return folder


@pytest.fixture
def begun(begun_once, tmp_path, refuse) -> pathlib.Path:
    """A copy of that folder, which the commands run in."""
    shutil.copytree(begun_once, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def on_digits_once(tmp_path_factory) -> pathlib.Path:
    """A folder with a run on digits after one of two epochs."""
    folder = tmp_path_factory.mktemp("on_digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call("train", *DIGITS, "--steps=3", "--export=") == 0
    return folder


@pytest.fixture
def on_digits(on_digits_once, tmp_path, monkeypatch) -> pathlib.Path:
    """A copy of that folder, which the commands run in."""
    shutil.copytree(on_digits_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--method=okddip", "--num_peers=2"], "needs 3 peers or more and has 2"),
        (["--method=dml", "--num_peers=1"], "needs 2 peers or more and has 1"),
        (["--method=okddip", "--arch=resnet8,resnet8,vgg11"], "unlike sizes [64, 64, 512]"),
        (["--method=kd"], "needs --teacher"),
        (["--method=kd", "--teacher=nowhere"], "--teacher=nowhere: there is no such folder"),
        (["--method=kdcl_general", "--validation_fraction=0"], "pass --validation_fraction above"),
        (["--share=stage9"], "peer 1, resnet8, has the stages stem, stage1, stage2, stage3"),
        (["--share=stem", "--arch=vgg11"], "has the stages stage1"),
        (["--share=stage1", "--arch=resnet8,vgg11"], "unlike shapes [(8, 8, 16), (4, 4, 64)]"),
        (["--weights=teachr=1"], "did you mean 'teacher'?"),
        (["--weights=teacher"], "term=number"),
        (["--weights=teacher=-1"], "teacher=-1.0 must be a number of 0 or more"),
        (
            ["--share=stage99", "--num_peers=1", "--method=independent"],
            "has the stages stem, stage1",
        ),
        (["--augment=augmix", "--jit=on"], "XLA cannot compile --augment=augmix"),
        (
            ["--method=kd", f"--teacher={EXPORT}", "--jit=on"],
            "XLA cannot compile --method=kd",
        ),
    ],
)
def test_a_method_that_cannot_be_had_with_the_other_settings_is_refused(refuse, arguments, hint):
    assert hint in refuse("train", *arguments)


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("--dataset=cifar1", "did you mean 'cifar10'?"),
        ("--dataset=digit", "did you mean 'digits'?"),
        ("--arch=resnt20", "did you mean 'resnet20'?"),
        ("--arch=resnet8,resnt8", "did you mean 'resnet8'?"),
        ("--arch=resnet9", "6n+2, such as resnet8 or resnet14"),
        ("--arch=resnet21", "6n+2, such as resnet20 or resnet26"),
        ("--arch=resnet2", "6n+2, such as resnet8 or resnet14"),
        ("--arch=,", "name a network such as resnet8"),
        ("--arch=resnet\uff18", "did you mean 'resnet8'?"),
        ("--arch=resnet99998", "the depth must be at most 2000"),
        ("--arch=wrn16_99999", "more memory than there is: name a smaller network"),
        ("--method=cutnmx", "did you mean 'cutnmix'?"),
        ("--method=zzz", "one of afd, cl_ilr, cutnmix, dlb, dml"),
        ("--augment=augmx", "augmix"),
        ("--mix=cutmx", "did you mean 'cutmix'?"),
        ("--export=techer", "did you mean 'teacher'?"),
        ("--schedule=cosin", "cosine"),
        ("--precision=bfloat16", "mixed_bfloat16"),
    ],
)
def test_a_name_that_nothing_knows_is_answered_with_those_that_are_known(refuse, argument, hint):
    line = refuse("train", argument)
    assert hint in line
    assert argument.split("=")[-1].split(",")[-1] in line


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--epoch=3", "'epoch'. Did you mean: epochs"),
        ("--epochs=many", "--epochs=many"),
        ("--flagfile=nothing.cfg", "No such file or directory: 'nothing.cfg'"),
        ("stray", "unexpected argument 'stray': flags begin with --"),
    ],
)
def test_an_argument_that_cannot_be_parsed_is_told(refuse, argument, words):
    line = refuse("train", argument)
    assert words in line
    assert "ERROR" not in line


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("num_peers", "0"),
        ("num_peers", "-1"),
        ("num_peers", "1000000"),
        ("num_peers", "9223372036854775807"),
        ("num_peers", "99999999999999999999"),
        ("alpha", "0.0"),
        ("alpha", "-1.0"),
        ("alpha", "nan"),
        ("alpha", "inf"),
        ("temperature", "0.0"),
        ("temperature", "-3.0"),
        ("learning_rate", "0.0"),
        ("learning_rate", "1e+308"),
        ("weight_decay", "-0.1"),
        ("momentum", "1.0"),
        ("ramp", "1.5"),
        ("teacher_memory", "-0.5"),
        ("validation_fraction", "1.0"),
        ("crop", "1.0"),
        ("image_size", "-8"),
        ("image_size", "9223372036854775807"),
        ("image_size", "99999999999999999999"),
        ("batch_size", "0"),
        ("epochs", "0"),
        ("epochs", "9223372036854775807"),
        ("epochs", "99999999999999999999"),
        ("restarts", "x"),
        ("steps", "-1"),
        ("seed", "-1"),
    ],
)
def test_a_number_outside_its_range_is_told_with_what_is_allowed(refuse, flag, value):
    assert refuse("train", f"--{flag}={value}").startswith(f"--{flag}={value}: must be ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--arch=resnet8,resnet14", "--num_peers=3"), "leave --num_peers out"),
        (("--resume", "--overwrite"), "contradict each other"),
        (("--batch_size=101", "--train_split=train[:100]"), "larger than the 90 training images"),
        (("--train_split=train[:0]",), "selects no images"),
        (("--test_split=tset",), "'tset'"),
        (("--train_split=train[",), "'train['"),
    ],
)
def test_settings_that_do_not_fit_together_or_the_data_are_told(refuse, arguments, words):
    assert words in refuse("train", *arguments)


LONG = "x" * 256


@pytest.mark.parametrize(
    ("name", "flag", "others"),
    [
        ("train", "workdir", []),
        ("train", "export_dir", []),
        ("train", "dataset", []),
        ("train", "data_dir", ["--dataset=cifar10"]),
        ("train", "teacher", ["--method=kd"]),
        ("train", "weights_from", []),
        ("train", "flagfile", []),
        ("evaluate", "savedmodel", []),
        ("evaluate", "dataset", [f"--savedmodel={EXPORT}"]),
        ("export", "run", []),
        ("predict", "savedmodel", [DIGIT]),
        ("predict", "csv", [f"--savedmodel={EXPORT}", DIGIT]),
        ("predict", "json", [f"--savedmodel={EXPORT}", DIGIT]),
        ("predict", "out", [f"--savedmodel={EXPORT}", DIGIT]),
        ("report", "out", ["."]),
        ("sweep", "workdir", ["--grid=seed=0"]),
    ],
)
@pytest.mark.parametrize("path", [f"./{LONG}", f"nowhere/{LONG}"])
def test_a_name_that_no_file_can_have_is_refused(refuse, name, flag, others, path):
    refuse(name, f"--{flag}={path}", *others)


def test_a_home_of_nobody_is_refused(refuse):
    assert "there is no such folder" in refuse("train", "--dataset=~nouser")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes(range(256)), "decode"),
        (b"--flagfile=x.cfg\n", "circular flagfile dependency"),
        (b"--workdir=a\0b\n", "is no text"),
        ("--workdir=\ud800\n".encode("utf-8", "surrogatepass"), "decode"),
    ],
)
def test_a_flagfile_that_is_none_is_refused(refuse, tmp_path, content, words):
    (tmp_path / "x.cfg").write_bytes(content)
    assert words in refuse("train", "--flagfile=x.cfg")


@pytest.mark.parametrize("folder", ["./nothing", "/nothing/at/all", "data/nothing"])
def test_a_data_folder_that_is_missing_is_told(refuse, folder):
    line = refuse("train", f"--dataset={folder}")
    assert folder in line
    assert "no such folder" in line


def test_an_empty_data_folder_is_told_with_what_belongs_into_it(refuse, tmp_path):
    (tmp_path / "pets").mkdir()
    assert "class sub-folders" in refuse("train", "--dataset=./pets")


def test_a_class_without_images_is_named(refuse, pets):
    (pets / "birds").mkdir()
    assert "pets/birds holds no images" in refuse("train", "--dataset=./pets")


def test_a_single_class_is_too_few(refuse, pets):
    shutil.rmtree(pets / "dogs")
    assert "one class, 'cats': 2 are needed" in refuse("train", "--dataset=./pets")


def test_other_classes_in_the_test_split_are_named(refuse, pets, tmp_path):
    shutil.copytree(pets, tmp_path / "both" / "train")
    shutil.copytree(pets, tmp_path / "both" / "test")
    (tmp_path / "both" / "test" / "dogs").rename(tmp_path / "both" / "test" / "wolves")
    assert "['dogs', 'wolves']" in refuse("train", "--dataset=./both")


def truncate(file: pathlib.Path) -> None:
    file.write_bytes(file.read_bytes()[:60])


def empty(file: pathlib.Path) -> None:
    file.write_bytes(b"")


def write_text(file: pathlib.Path) -> None:
    file.write_text("<html>404 Not Found</html>")


def link_to_nothing(file: pathlib.Path) -> None:
    file.unlink()
    file.symlink_to("nothing")


DAMAGES = (truncate, empty, write_text, link_to_nothing)
IMAGES = ("cats/00.png", "cats/06.png", "dogs/08.png", "dogs/09.png")
DAMAGED = [
    # Each damage and each image once; their other pairs take some seconds apiece.
    pytest.param(image, damage, marks=[] if i == k else [pytest.mark.slow])
    for i, image in enumerate(IMAGES)
    for k, damage in enumerate(DAMAGES)
]


@pytest.mark.parametrize(("image", "damage"), DAMAGED)
def test_a_broken_image_is_named(refuse, pets, image, damage):
    damage(pets / image)
    assert image in refuse("train", "--dataset=./pets")


def test_an_image_of_another_size_is_named(refuse, pets):
    (pets / "dogs" / "05.png").unlink()
    write_images(pets / "other", 1, size=(6, 7))
    (pets / "other" / "00.png").rename(pets / "dogs" / "05.png")
    (pets / "other").rmdir()
    line = refuse("train", "--dataset=./pets")
    assert "dogs/05.png has 7x6 pixels" in line
    assert "--image_size" in line


def test_test_images_of_another_size_are_told(refuse, tmp_path):
    for name in ("cats", "dogs"):
        write_images(tmp_path / "both" / "train" / name, 5)
        write_images(tmp_path / "both" / "test" / name, 5, size=(9, 9))
    assert "pass --image_size" in refuse("train", "--dataset=./both")


@pytest.mark.parametrize("flag", ["workdir", "export_dir"])
@pytest.mark.parametrize("folder", ["file", "file/inside", "/dev/null/inside"])
def test_a_folder_that_is_a_file_or_inside_one_is_refused(refuse, tmp_path, flag, folder):
    (tmp_path / "file").write_text("precious")
    line = refuse("train", f"--{flag}={folder}")
    assert folder in line
    assert line.endswith(("file is a file", "/dev/null is a file"))


@pytest.mark.parametrize("flag", ["workdir", "export_dir"])
@pytest.mark.skipif(os.geteuid() == 0, reason="every folder can be written by root")
def test_a_folder_that_is_read_only_is_refused(refuse, tmp_path, flag):
    (tmp_path / "locked").mkdir(mode=0o555)
    assert "locked is read-only" in refuse("train", f"--{flag}=locked/inside")


def test_a_folder_that_the_system_does_not_make_is_refused(refuse):
    line = refuse("train", "--workdir=/proc/inside", "--export=")
    assert "/proc/inside cannot be written" in line


@pytest.mark.long
def test_a_folder_that_holds_a_run_is_refused_with_the_ways_out(begun, refuse):
    line = refuse("train", *PETS)
    assert line.startswith("run holds a run already: ")
    assert all(way in line for way in ("--resume", "--overwrite", "--workdir"))


@pytest.mark.parametrize("setting", ["learning_rate=0.3", "epochs=5", "num_peers=2", "crop=0.25"])
def test_a_run_is_not_resumed_with_another_setting(begun, refuse, setting):
    line = refuse("train", *PETS, f"--{setting}", "--resume")
    assert f"not with --{setting}" in line


def test_a_run_is_not_resumed_on_data_that_gained_a_class(begun, refuse):
    write_images(begun / "pets" / "birds", 20)
    line = refuse("train", *PETS, "--resume")
    assert "begun on 2 classes" in line
    assert "now holds 3" in line


def test_a_run_is_not_resumed_on_data_whose_class_was_renamed(begun, refuse):
    (begun / "pets" / "cats").rename(begun / "pets" / "birds")
    assert "begun on 2 classes" in refuse("train", *PETS, "--resume")


def the_checkpoint(folder: pathlib.Path) -> pathlib.Path:
    (path,) = checkpoints.paths(folder / "run")
    return path


def test_a_damaged_checkpoint_is_named(begun, refuse):
    path = the_checkpoint(begun)
    truncate(path)
    line = refuse("train", *PETS, "--resume")
    assert f"cannot read the checkpoint run/checkpoints/{path.name}" in line


def test_an_array_file_that_is_copied_over_a_checkpoint_is_refused(begun, refuse):
    with open(the_checkpoint(begun), "wb") as file:
        np.savez(file, np.zeros(3))
    assert "is no checkpoint" in refuse("train", *PETS, "--resume")


@pytest.mark.long
def test_a_checkpoint_survives_a_full_disk(on_digits, capfd):
    before = the_checkpoint(on_digits).read_bytes()
    with largest_file(20_000):
        assert call("train", *DIGITS, "--resume") == 1
    assert ".npz: File too large" in the_line(capfd.readouterr().err)
    assert the_checkpoint(on_digits).read_bytes() == before
    assert not list((on_digits / "run").rglob("*.tmp"))

    assert call("train", *DIGITS, "--resume", "--export=") == 0
    rows = (on_digits / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2]


@pytest.mark.long
def test_a_resume_that_cannot_write_the_small_files_costs_no_run(on_digits):
    limited = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "os.execv(sys.executable, [sys.executable, '-P', '-m', 'tf_cutnmix.train', *sys.argv[1:]])"
    )
    launch = [sys.executable, "-P", "-c", limited, *DIGITS, "--resume", "--export="]
    process = subprocess.run(launch, cwd=on_digits, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    # The temporary files of TensorFlow's AutoGraph are cut off too, and it warns of that first.
    assert the_line(process.stderr.splitlines(keepends=True)[-1])
    assert "Traceback" not in process.stderr
    assert call("train", *DIGITS, "--resume", "--export=", "--steps=1") == 0


def test_a_disk_without_any_room_costs_no_run(on_digits_once, small_disk, monkeypatch, capfd):
    shutil.copytree(on_digits_once, small_disk, dirs_exist_ok=True)
    monkeypatch.chdir(small_disk)
    before = the_checkpoint(small_disk).read_bytes()
    with pytest.raises(OSError, match="No space"):
        fill("filling")
    assert call("train", *DIGITS, "--resume", "--export=") == 1
    the_line(capfd.readouterr().err)
    assert the_checkpoint(small_disk).read_bytes() == before

    pathlib.Path("filling").unlink()
    assert call("train", *DIGITS, "--resume", "--export=") == 0


def test_evaluating_without_an_export_asks_for_one(refuse):
    assert refuse("evaluate").startswith("--savedmodel is missing")


def test_evaluating_a_folder_that_is_missing_says_so(refuse):
    line = refuse("evaluate", "--savedmodel=nothing")
    assert "--savedmodel=nothing" in line
    assert "no such folder" in line


def test_evaluating_a_folder_that_is_no_savedmodel_is_refused(refuse, pets):
    line = refuse("evaluate", "--savedmodel=pets")
    assert "--savedmodel=pets holds no saved_model.pb" in line


def test_evaluating_the_folder_of_all_versions_names_them(begun, refuse):
    line = refuse("evaluate", "--savedmodel=exports/pets_tiny_networks_tiny")
    assert "name a version in it: 1" in line


def test_evaluating_a_damaged_savedmodel_is_refused(begun, refuse):
    folder = "exports/pets_tiny_networks_tiny/1"
    truncate(begun / folder / "saved_model.pb")
    assert f"{folder} is no export" in refuse("evaluate", f"--savedmodel={folder}")


def test_evaluating_a_savedmodel_without_its_weights_is_refused(begun, refuse):
    folder = "exports/pets_tiny_networks_tiny/1"
    shutil.rmtree(begun / folder / "variables")
    assert f"{folder} is no export" in refuse("evaluate", f"--savedmodel={folder}")


def test_evaluating_a_foreign_savedmodel_is_refused(refuse, tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "foreign"))
    assert "foreign is no export" in refuse("evaluate", "--savedmodel=foreign")


def test_evaluating_a_savedmodel_that_answers_something_else_is_refused(refuse, tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def double(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 2 * x}

    tf.saved_model.save(tf.Module(), str(tmp_path / "foreign"), {"serving_default": double})
    (tmp_path / "foreign" / "assets").mkdir(exist_ok=True)
    (tmp_path / "foreign" / "assets" / "class_names.txt").write_text("a\nb\n")
    assert "takes no images" in refuse("evaluate", "--savedmodel=foreign")


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("[1, 2]", "exported no teacher"),
        ('{"exports": ["teacher"]}', "exported no teacher"),
        ('{"exports": {"teacher": 7}}', "exported no teacher"),
        ("[" * 100_000, "holds no saved_model.pb"),
        ('{"exports": {"teacher": "/etc"}}', "outside of its folder; if you trust"),
        ('{"exports": {"teacher": "foreign/../pets"}}', "outside of its folder"),
    ],
)
def test_the_result_of_another_making_is_not_followed(refuse, tmp_path, result, words):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "result.json").write_text(result)
    assert words in refuse("evaluate", "--savedmodel=foreign")


def test_evaluating_on_other_classes_tells_both(begun, refuse):
    line = refuse("evaluate", "--savedmodel=exports/pets_tiny_networks_tiny/1", "--dataset=digits")
    assert "'cats', 'dogs'" in line
    assert "'0', '1', '2', '3', '4' and 5 more" in line


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "argument", "words"),
    [
        ("train", "--arch=resnt8", "did you mean 'resnet8'?"),
        ("evaluate", "--savedmodel=nothing", "nothing"),
    ],
)
def test_a_process_says_the_same_and_no_more(tmp_path, name, argument, words):
    process = subprocess.run(
        [sys.executable, "-P", "-m", f"tf_cutnmix.{name}", argument],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if not key.startswith("TF_CPP")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert words in the_line(process.stderr)
    assert process.stdout == ""
    assert contents(tmp_path) == {}
