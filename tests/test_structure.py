"""Structure: wings follow the way of a sample, and each imports only from those before it."""

import ast
import configparser
import functools
import graphlib
import importlib
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "tf_cutnmix"
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "sklearn": "scikit-learn",
    "tensorflow_serving": "tensorflow-serving-api",
}
DOORS = ("train", "evaluate", "predict", "export", "sweep", "report")


def module_name(path: pathlib.Path) -> str:
    """The name below the package; `__init__` for the package itself, a wing's for its own."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
METHODS = [module for module in FILES if module.startswith("distillation.methods.")]


# The order in which the package is read: names of wings, and of files outside of any.
WINGS = (
    *("errors", "files", "output", "escaping", "settings", "keras_choices", "command"),
    *("data", "mixing", "networks", "distillation", "serving", "runs"),
    *("reporting", "sweeps", "predicting"),
    *DOORS,
)


def wing_of(module: str) -> str:
    return module.partition(".")[0]


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


def imports(module: str) -> set[str]:
    """The full names of all modules that a file imports, on its top level or in a function."""
    names = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the package"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                is_module = inside.removeprefix("tf_cutnmix.") in FILES
                names.add(inside if is_module else node.module)
    return names


def own_imports(module: str) -> set[str]:
    """The modules of the package that a file imports, by their names below it."""
    own = {name for name in imports(module) if name.split(".")[0] == "tf_cutnmix"}
    return {name.removeprefix("tf_cutnmix").removeprefix(".") for name in own}


def other_imports(module: str) -> set[str]:
    """The packages from elsewhere that a file imports."""
    packages = {name.split(".")[0] for name in imports(module)}
    return packages - {"tf_cutnmix"} - sys.stdlib_module_names


def public_definitions(module: str) -> list[ast.FunctionDef | ast.ClassDef]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [n for n in tree(module).body if isinstance(n, kinds) and not n.name.startswith("_")]


def test_every_file_has_its_wing() -> None:
    assert {wing_of(module) for module in FILES} == {"__init__", *WINGS}


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_imports_only_from_wings_before_it(wing: str) -> None:
    before = WINGS[: WINGS.index(wing) + 1]
    for module in (module for module in FILES if wing_of(module) == wing):
        assert {wing_of(own) for own in own_imports(module)} <= {*before}, module


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = {module: own_imports(module) - {""} for module in FILES}
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_families_of_networks_know_nothing_but_errors_and_their_blocks() -> None:
    assert own_imports("networks.families") <= {"errors", "networks.blocks"}


def test_a_method_is_known_by_its_name_alone() -> None:
    assert METHODS
    for module in FILES:
        assert own_imports(module).isdisjoint(METHODS), module


def test_the_tests_stand_in_the_wings_of_the_package() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in ROOT.glob("tests/*/**/*.py")}
    others = {pathlib.Path(name) for name in ("benchmarks", "studies", "own_networks")}
    formulas = {pathlib.Path("distillation", "references")}
    wings = {path.parent.relative_to(PACKAGE) for path in FILES.values()}
    assert folders <= wings | others | formulas


def test_the_serving_script_knows_nothing_of_the_package() -> None:
    assert not own_imports("serving.serve_requests")


def test_flags_live_in_the_commands_alone() -> None:
    for module in {*FILES} - {"command", *DOORS}:
        assert "absl" not in other_imports(module), module
        assert "command" not in own_imports(module), module


def test_keras_cv_is_imported_in_one_function_alone() -> None:
    assert [module for module in FILES if "keras_cv" in other_imports(module)] == ["mixing.augment"]
    on_top = [n for n in tree("mixing.augment").body if isinstance(n, ast.Import)]
    assert "keras_cv" not in {alias.name for n in on_top for alias in n.names}


def test_what_is_imported_is_a_declared_dependency() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    optional = declared(*(extras[name] for name in ("litert", "onnx", "openvino", "serving")))
    needed = declared(setup["options"]["install_requires"])
    for module in FILES:
        imported = {DISTRIBUTIONS.get(n, n).replace("_", "-") for n in other_imports(module)}
        is_optional = module in ("serving.formats", "serving.savedmodel")
        assert imported <= needed | (optional if is_optional else set()), module


def declared(*requirements: str) -> set[str]:
    """The distributions that lists of requirements name."""
    lines = [line for text in requirements for line in text.split("\n") if line]
    return {re.split(r"[<>=~!; ]", line)[0] for line in lines}


def test_every_file_and_all_that_is_public_in_it_says_what_it_is_for() -> None:
    for module in FILES:
        assert ast.get_docstring(tree(module)), module
        for node in public_definitions(module):
            assert ast.get_docstring(node), f"{module}.{node.name}"


def test_the_package_offers_what_it_lists() -> None:
    package = importlib.import_module("tf_cutnmix")
    for name in package.__all__:
        assert getattr(package, name).__module__.startswith("tf_cutnmix.")


@pytest.mark.parametrize("name", ["data", "mixing", "networks", "distillation", "serving", "runs"])
def test_a_wing_offers_what_it_lists_and_hides_no_file_by_it(name: str) -> None:
    package = importlib.import_module(f"tf_cutnmix.{name}")
    assert package.__all__ == sorted(package.__all__)
    for offered in package.__all__:
        assert hasattr(package, offered)
        assert f"{name}.{offered}" not in FILES


@pytest.mark.parametrize("module", ["runs.config", "command", "errors"])
def test_what_the_commands_begin_with_does_not_import_tensorflow(
    module: str, tmp_path: pathlib.Path
) -> None:
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"tf_cutnmix.{module}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.split("|")[-1].strip().split(".")[0] for line in process.stderr.splitlines()}
    assert "tf_cutnmix" in imported
    assert imported.isdisjoint({"tensorflow", "keras", "numpy", "sklearn"})
