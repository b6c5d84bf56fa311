"""CSV files that name pictures and their classes: read as a folder of them is, or refused."""

import pathlib
import shutil

import pytest

from tests.data.pictures import plain, values, write
from tf_cutnmix import data
from tf_cutnmix.errors import InputError


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with `pets.csv` to be and pictures 0 to 9 in `img`."""
    for value in range(10):
        write(tmp_path / "img" / f"{value}.png", plain(value))
    return tmp_path


def table(folder: pathlib.Path, *lines: str, encoding: str = "utf-8") -> str:
    file = folder / "pets.csv"
    file.write_text("".join(f"{line}\n" for line in lines), encoding=encoding)
    return str(file)


def rows(classes: str = "aaaaabbbbb") -> list[str]:
    return [f"img/{value}.png,{label}" for value, label in enumerate(classes)]


def test_it_is_the_folder_of_the_same_pictures(pets: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy = shutil.copytree(pets, tmp_path / "pets")
    lines = [f"{file.relative_to(copy)},{file.parent.name}" for file in copy.rglob("*.png")]
    named = table(copy, "path,label", *lines)
    for split in ("train", "test", "train[:7]+test"):
        own, expected = data.load(named, split), data.load(str(pets), split)
        assert values(own) == values(expected)
        assert own.labels.tolist() == expected.labels.tolist()
        assert own.class_names == expected.class_names
        assert own.fingerprints().tolist() == expected.fingerprints().tolist()
    assert own.notes == (f"{named}: 20 pictures of 2 classes",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_spreadsheets_and_windows_are_understood(photos, encoding, separator) -> None:
    lines = ["Filename,Class,note", *(f"{row.replace('/', chr(92))}, x" for row in rows()), ",,"]
    lines = [line.replace(",", separator) for line in lines]
    images = data.load(table(photos, *lines, encoding=encoding), "train")
    assert (values(images), images.class_names) == ([0, 1, 2, 3, 5, 6, 7, 8], ("a", "b"))


def test_numbers_are_names_of_classes_as_they_stand(photos: pathlib.Path) -> None:
    lines = [f"img/{value}.png,{[10, '02'][value % 2]}" for value in range(10)]
    assert data.load(table(photos, "path,label", *lines), "train").class_names == ("02", "10")


def test_splits_are_called_as_folders_are(photos: pathlib.Path) -> None:
    splits = ["train", "val", "test"]
    lines = [f"img/{i}.png,{'ab'[i % 2]},{splits[i // 4]}" for i in range(10)]
    named = table(photos, "path,label,split", *lines)
    assert values(data.load(named, "train")) == [0, 2, 1, 3]
    assert values(data.load(named, "val")) == values(data.load(named, "validation")) == [4, 6, 5, 7]
    assert data.own_validation(named) == "validation"
    without = table(photos, "path,label,split", *(line for line in lines if "test" not in line))
    images = data.load(without, "test")
    assert values(images) == [4, 6, 5, 7]
    assert "those for validation are the test split" in images.notes[1]
    assert data.own_validation(without) == ""


def test_lines_that_repeat_others_count_once(photos: pathlib.Path) -> None:
    images = data.load(table(photos, "path,label", *rows(), "./img/0.png,a"), "train")
    assert values(images) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert images.notes[0].endswith("10 pictures of 2 classes; 1 lines repeat others")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "cannot be read as CSV"),
        (["path,label"], "lists no pictures"),
        (["path,species", *rows()], "one column called label .*its columns are path, species"),
        (["path,label,class", "img/0.png,a,b"], "one column called label"),
        (["path,label", *rows("aaaa bbbbb")], r"1 of its lines have no label.*line 6 \(img/4.png"),
        (["path,label", "img/0.png"], "have no label"),
        (["path,label", ",a"], "have no path"),
        (["path,label", 'img/0.png,"a\nb"'], "label of several lines"),
        (["path,label", "img/0.png,a,b"], "lines are longer than the first"),
        (["path,label", *rows(), "img/77.png,a"], "1 files that are not there, such as .*77.png"),
        (["path,label", "0.png,a"], "move the CSV file into .*img"),
        (
            ["path,label", *rows(), "img/0.png,b"],
            r"2 of its lines say different .*line 2 \(.*0.png",
        ),
        (["path,label", *rows("aaaaaaaaaa")], "holds one class, 'a'"),
        (["path,label,split", "img/0.png,a,x"], "names the splits x: one must be train"),
        (["path,label,split", "img/0.png,a,"], "have no split"),
        (["path,label,split", "img/0.png,a,train", "img/1.png,b,test"], "test has classes .*: b"),
    ],
)
def test_what_is_no_such_table_is_refused_in_a_line(photos, lines, words) -> None:
    with pytest.raises(InputError, match=words) as caught:
        data.load(table(photos, *lines), "train")
    assert "\n" not in str(caught.value)


def test_other_text_than_utf_8_is_refused(photos: pathlib.Path) -> None:
    for encoding in ("cp1252", "utf-16"):
        named = table(photos, "path,label", *rows("ääääabbbbb"), encoding=encoding)
        with pytest.raises(InputError, match="save it as CSV UTF-8"):
            data.load(named, "train")


def test_a_missing_table_and_a_folder_that_has_one_are_told(photos: pathlib.Path) -> None:
    named = table(photos, "path,label", *rows())
    with pytest.raises(InputError, match=r"no such file: did you mean '.*pets.csv'"):
        data.load(named.replace("pets", "pet"), "train")
    with pytest.raises(InputError, match=r"no class sub-folders.*pass --dataset=.*pets.csv"):
        data.load(str(photos / "img"), "train")
