"""Structure: files follow the way of a sample, and each imports only from those before it."""

import ast
import configparser
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


def wing(name: str, *files: str) -> list[str]:
    """The files of a wing in their order, then what it offers."""
    return [*(f"{name}.{file}" for file in files), name]


FAMILIES = wing(
    "networks.families",
    *("layers", "resnet", "wide_resnet", "vgg", "densenet", "mobilenet", "shufflenet"),
)

# The order in which the package is read.
ORDER = [
    *("errors", "files", "output", "escaping", "settings", "keras_choices", "command"),
    *wing(
        "data",
        *(
            "images",
            "collecting",
            "held_out",
            "splits",
            "decode",
            "by_pillow",
            "layout",
            "digits",
            "folder",
            "tfds",
            "cache",
        ),
        *("sources", "batches"),
    ),
    *wing(
        "mixing",
        *("draws", "augment", "quantiles", "sampling", "masks", "pasting", "labels", "batch"),
        *("layer", "layers", "function", "dataset"),
    ),
    *FAMILIES,
    *wing(
        "networks",
        *("classifier", "copies", "foreign", "own", "applications", "build", "sharing", "served"),
        "pretrained",
    ),
    *(
        f"distillation.{file}"
        for file in ("losses", "peers", "forward", "method", "terms", "unpacking")
    ),
    *METHODS,
    "distillation.methods",
    *(f"distillation.{file}" for file in ("teacher", "soup", "views", "replicas", "guard")),
    *wing("distillation", "callbacks", "graphs", "trainer", "predictor", "distiller"),
    "serving.resizing",
    *wing("serving.formats", "format", "litert", "litert_int8", "onnx", "openvino"),
    *wing("serving", "files", "conversion", "record", "warmup", "fresh", "savedmodel"),
    # The wing offers its settings alone: the rest waits for TensorFlow.
    *wing("runs", "names", "flags", "config"),
    *(f"runs.{file}" for file in ("begun", "checkpoints", "workdir", "workers", "events")),
    "runs.interrupts",
    *(f"runs.{file}" for file in ("progress", "outlook", "display", "scores", "predictions")),
    *(f"runs.{file}" for file in ("card", "cost", "pictures", "contradictions", "loading")),
    *(f"runs.{file}" for file in ("splits", "optimizer", "build", "announcement", "soup")),
    *("runs.results", "runs.exporting", "runs.letting_go", "runs.experiment"),
    *wing(
        "reporting",
        *("runs", "groups", "comparison", "tables", "plots", "across", "diagrams", "pages"),
        *("run_page", "best_runs", "documents"),
    ),
    *wing("sweeps", "grid", "cell", "processes", "results", "progress"),
    *wing("predicting", "pictures", "answers", "documents"),
    *DOORS,
]


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


def test_every_file_has_its_place_in_the_order() -> None:
    assert set(FILES) == {"__init__", *ORDER, "serving.serve_requests"}
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_a_file_imports_only_from_those_before_it(module: str) -> None:
    assert own_imports(module) <= set(ORDER[: ORDER.index(module)])


def test_a_family_of_networks_knows_nothing_but_errors() -> None:
    families = [module for module in FAMILIES if "." in module.removeprefix("networks.")]
    assert families
    for family in families:
        assert own_imports(family) <= {"errors", "networks.families.layers"}


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


@pytest.mark.parametrize("module", sorted({*FILES} - {"command", *DOORS}))
def test_flags_live_in_the_commands_alone(module: str) -> None:
    assert "absl" not in other_imports(module)
    assert "command" not in own_imports(module)


@pytest.mark.parametrize("module", FILES)
def test_keras_cv_is_imported_only_where_it_is_used(module: str) -> None:
    on_top = {
        alias.name for n in tree(module).body if isinstance(n, ast.Import) for alias in n.names
    }
    assert "keras_cv" not in on_top
    assert module == "mixing.augment" or "keras_cv" not in other_imports(module)


def test_what_is_imported_is_a_declared_dependency() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    optional = declared(*(extras[name] for name in ("litert", "onnx", "openvino", "serving")))
    needed = declared(setup["options"]["install_requires"])
    for module in FILES:
        imported = {DISTRIBUTIONS.get(n, n).replace("_", "-") for n in other_imports(module)}
        is_optional = module.startswith("serving.formats.") or module == "serving.warmup"
        assert imported <= needed | (optional if is_optional else set()), module


def declared(*requirements: str) -> set[str]:
    """The distributions that lists of requirements name."""
    lines = [line for text in requirements for line in text.split("\n") if line]
    return {re.split(r"[<>=~!; ]", line)[0] for line in lines}


@pytest.mark.parametrize("module", FILES)
def test_every_file_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(tree(module))


@pytest.mark.parametrize("module", FILES)
def test_every_public_function_and_class_has_a_docstring(module: str) -> None:
    silent = [node.name for node in public_definitions(module) if not ast.get_docstring(node)]
    assert not silent


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
