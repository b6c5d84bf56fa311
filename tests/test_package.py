"""What the package offers, where from and when: without a guess at how it is run."""

import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

import tf_cutnmix

ROOT = pathlib.Path(__file__).parents[1]


def run(folder: pathlib.Path, *arguments: str) -> str:
    """What Python prints, with a folder or a zip file before all else that it imports from."""
    process = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.long
def test_a_package_may_import_from_it_however_it_is_run(tmp_path) -> None:
    (tmp_path / "proj").mkdir()
    offers = "from tf_cutnmix import Config, CutNMix\nfrom tf_cutnmix import *\n"
    (tmp_path / "proj" / "__init__.py").write_text(offers)
    (tmp_path / "proj" / "train.py").write_text("from proj import CutNMix; print(CutNMix)")
    assert "tf_cutnmix.mixing.layers.CutNMix" in run(tmp_path, "-m", "proj.train")


def test_what_it_offers_is_listed_before_it_is_there_and_nothing_else_is_there() -> None:
    code = (
        "import sys, tf_cutnmix; print(dir(tf_cutnmix)); from tf_cutnmix import Config\n"
        "print('tensorflow' in sys.modules)"
    )
    listed, imported = run(ROOT, "-c", code).splitlines()
    assert all(repr(name) in listed for name in tf_cutnmix.__all__)
    assert imported == "False"
    for name in tf_cutnmix.__all__:
        assert getattr(tf_cutnmix, name).__module__.startswith("tf_cutnmix.")
    with pytest.raises(AttributeError, match="'tf_cutnmix' has no attribute 'CutnMix'"):
        tf_cutnmix.CutnMix  # noqa: B018


@pytest.mark.long
def test_a_type_checker_sees_the_names_and_no_others(tmp_path) -> None:
    names = "\n".join(f"reveal_type(tf_cutnmix.{name})" for name in tf_cutnmix.__all__)
    (tmp_path / "user.py").write_text(f"import tf_cutnmix\n{names}\ntf_cutnmix.CutnMix\n")
    process = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=setup.cfg", str(tmp_path / "user.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    revealed = re.findall(r'Revealed type is "(.*)"', process.stdout)
    assert len(revealed) == len(tf_cutnmix.__all__), process.stdout
    assert "Any" not in revealed
    assert 'has no attribute "CutnMix"' in process.stdout


def test_the_help_is_the_same_from_a_zip_file(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for path in (ROOT / "tf_cutnmix").rglob("*.py"):
            archive.write(path, path.relative_to(ROOT))
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(tmp_path / 'package.zip')!r})\n"
        "sys.argv = ['train', '--help']\n"
        "runpy.run_module('tf_cutnmix.train', run_name='__main__')"
    )
    text = run(tmp_path, "-P", "-c", code)
    assert text == run(ROOT, "-m", "tf_cutnmix.train", "--help")
    assert "kdcl_linear" in text
    assert "litert_int8" in text
