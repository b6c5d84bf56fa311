"""Structure: wings follow the way of a sample, and each imports only from those before it."""

import ast
import configparser
import functools
import graphlib
import importlib
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "tf_cutnmix"
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "sklearn": "scikit-learn",
    "tensorflow_serving": "tensorflow-serving-api",
}
DOORS = ("train", "evaluate", "predict", "try", "export", "sweep", "report", "cli", "__main__")
# The order in which the package is read: names of wings, and of files outside of any.
WINGS = (
    *("errors", "interrupts", "files", "output", "escaping", "settings", "keras_choices"),
    *("places", "exports"),
    "command",
    *("data", "mixing", "networks", "distillation", "serving", "runs"),
    *("reporting", "sweeps", "predicting", "demo"),
    *DOORS,
)


def module_name(path: pathlib.Path) -> str:
    """The name below the package; `__init__` for the package itself, a wing's for its own."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
METHODS = [module for module in FILES if module.startswith("distillation.methods.")]


def wing_of(module: str) -> str:
    return module.partition(".")[0]


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


@functools.cache
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


def test_wings_import_only_from_wings_before_them_and_files_in_no_circle() -> None:
    assert {wing_of(module) for module in FILES} == {"__init__", *WINGS}
    for module in FILES.keys() - {"__init__"}:
        before = WINGS[: WINGS.index(wing_of(module)) + 1]
        root = {""} if module == "cli" else set()  # for its version
        assert {wing_of(own) for own in own_imports(module)} <= {*before, *root}, module
    graph = {module: own_imports(module) - {""} for module in FILES}
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_what_is_found_by_its_name_is_imported_by_nobody_and_knows_little() -> None:
    """Methods, families of networks, and the script that has TensorFlow alone."""
    assert METHODS
    for module in FILES:
        assert own_imports(module).isdisjoint(METHODS), module
    assert own_imports("networks.families") <= {"errors", "networks.blocks"}
    assert not own_imports("serving.serve_requests")


def test_the_tests_stand_in_the_wings_of_the_package() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in ROOT.glob("tests/*/**/*.py")}
    others = {pathlib.Path(name) for name in ("benchmarks", "studies", "own_networks")}
    formulas = {pathlib.Path("distillation", "references")}
    wings = {path.parent.relative_to(PACKAGE) for path in FILES.values()}
    assert folders <= wings | others | formulas


def test_flags_live_in_the_commands_alone() -> None:
    for module in FILES.keys() - {"command", *DOORS}:
        assert "absl" not in other_imports(module), module
        assert "command" not in own_imports(module), module


def test_keras_cv_is_imported_in_one_file_alone() -> None:
    assert [module for module in FILES if "keras_cv" in other_imports(module)] == ["mixing.augment"]


def test_what_is_imported_is_a_declared_dependency() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]

    def declared(*requirements: str) -> set[str]:
        lines = [line for text in requirements for line in text.split("\n") if line]
        return {re.split(r"[<>=~!; ]", line)[0] for line in lines}

    formats = declared(*(extras[name] for name in ("litert", "onnx", "openvino", "serving")))
    optional = {
        "demo": declared(extras["demo"]),
        "networks.pytorch": declared(extras["pytorch"], extras["bench"]),
        "serving.formats": formats,
        "serving.savedmodel": formats,
    }
    needed = declared(setup["options"]["install_requires"])
    for module in FILES:
        imported = {DISTRIBUTIONS.get(n, n).replace("_", "-") for n in other_imports(module)}
        assert imported <= needed | optional.get(module, set()), module


def test_every_file_and_all_that_is_public_in_it_has_a_docstring() -> None:
    for module in FILES:
        assert ast.get_docstring(tree(module)), module
        for node in tree(module).body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
            assert not public or ast.get_docstring(node), f"{module}.{node.name}"


def test_a_wing_offers_what_it_lists_and_hides_no_file_by_it() -> None:
    for name in ("data", "mixing", "networks", "distillation", "serving", "runs"):
        package = importlib.import_module(f"tf_cutnmix.{name}")
        assert package.__all__ == sorted(package.__all__)
        assert all(hasattr(package, offered) for offered in package.__all__)
        assert not {f"{name}.{offered}" for offered in package.__all__} & FILES.keys()
