"""A CSV file that says of which class each picture is: `path,label` or `path,label,split`."""

import pathlib

import pandas as pd

from tf_cutnmix.data.folder import ROLES, Classes, Layout, fifths
from tf_cutnmix.errors import InputError, first_line, listed
from tf_cutnmix.escaping import composed, one_line

# What the columns are called, in any case.
_NAMES = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "img"),
    "label": ("label", "class", "class_name", "category", "target"),
    "split": ("split", "set", "subset"),
}
_SEPARATORS = ",;\t"


def layout(path: pathlib.Path) -> Layout:
    """The pictures that a CSV file lists, as `folder.layout` has those of a folder.

    A line is a picture: its path, from the folder of the CSV file on; its class, which is text;
    its split, if there is such a column, called as folders of splits are. Without it every fifth
    picture of each class, in the order of the paths, is a test picture.

    Raises:
      InputError: the file is no such table, a picture is not there or has two classes or splits,
        or the splits do not fit together.
    """
    rows = _read(path)
    rows["path"] = _located(path, rows["path"])
    lines, rows = len(rows), rows.drop_duplicates()
    twice = rows[rows.duplicated("path", keep=False)].sort_values("path")
    _refuse(path, twice, "say different things of the same pictures")
    if "split" in rows:
        written = {str(name): _by_class(part) for name, part in rows.groupby("split")}
        splits = {ROLES.get(name.lower(), name): part for name, part in written.items()}
        if "train" not in splits or len(splits) < len(written):
            raise InputError(
                f"{path} names the splits {', '.join(written)}: one must be train, and each of "
                "another meaning"
            )
    else:
        written, splits = {}, fifths(_by_class(rows))
    for name, classes in splits.items():
        if unknown := sorted(set(classes) - set(splits["train"])):
            raise InputError(f"{path}: {name} has classes that train has not: {listed(unknown)}")
    found = f"{path}: {len(rows)} pictures of {len(splits['train'])} classes"
    notes = [f"{found}; {lines - len(rows)} lines repeat others" if lines > len(rows) else found]
    if "test" not in splits and "validation" in splits:
        notes.append(f"{path} names no test pictures: those for validation are the test split")
        splits["test"] = splits.pop("validation")
    positions = {label: k for k, label in enumerate(splits["train"])}
    return Layout(
        tuple(positions),
        {
            name: [(file, positions[label]) for label, files in part.items() for file in files]
            for name, part in {**written, **splits}.items()
        },
        tuple(notes),
    )


def _read(path: pathlib.Path) -> pd.DataFrame:
    """The columns `path`, `label` and perhaps `split` as text, by the number of the line."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        # Spreadsheets separate as their country does.
        separator = max(_SEPARATORS, key=header.count)
        table = pd.read_csv(
            path, sep=separator, encoding="utf-8-sig", dtype=str, keep_default_na=False
        )
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 text: save it as CSV UTF-8") from error
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path} cannot be read as CSV: {first_line(error)}") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(f"{path} cannot be read as CSV: its lines are longer than the first")
    table = table.fillna("")
    # Spreadsheets end with lines of separators alone.
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise InputError(f"{path} lists no pictures: write a line of names, then a line for each")
    rows = pd.DataFrame(index=table.index + 2)
    for name, spellings in _NAMES.items():
        found = [column for column in table if column.strip().lower() in spellings]
        if len(found) > 1 or (not found and name != "split"):
            raise InputError(
                f"{path} needs one column called {name} (or {', '.join(spellings[1:])}), and its "
                f"columns are {one_line(listed([*table]))}"
            )
        if found:
            values = table[found[0]].str.strip().to_numpy()
            rows[name] = values if name == "path" else [composed(value) for value in values]
            _refuse(path, rows[rows[name] == ""], f"have no {name}")
    several = [label.splitlines() != [label] for label in rows["label"]]
    _refuse(path, rows[several], "have a label of several lines")
    return rows


def _located(path: pathlib.Path, names: pd.Series) -> list[pathlib.Path]:
    """The files of these names."""
    files = [path.parent / name for name in names]
    if any("\\" in name for name in names):  # written on Windows
        files = [path.parent / name.replace("\\", "/") for name in names]
    missing = [file for file in files if not file.is_file()]
    if missing:
        name = missing[0].relative_to(path.parent) if path.parent in missing[0].parents else ""
        folders = [p for p in sorted(path.parent.iterdir()) if name and (p / name).is_file()]
        remedy = f"move the CSV file into {folders[0]}" if folders else "mend its paths"
        raise InputError(
            f"{path} lists {len(missing)} files that are not there, such as {missing[0]}: paths "
            f"begin in the folder of the CSV file, {remedy}"
        )
    return files


def _by_class(rows: pd.DataFrame) -> Classes:
    return {str(label): sorted(part["path"]) for label, part in rows.groupby("label")}


def _refuse(path: pathlib.Path, wrong: pd.DataFrame, problem: str) -> None:
    """Raise `InputError` if any lines are wrong."""
    if len(wrong):
        first = f"line {wrong.index[0]} ({wrong['path'].iloc[0]})"
        raise InputError(f"{path}: {len(wrong)} of its lines {problem}, such as {first}")
