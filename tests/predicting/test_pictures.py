"""Which files are meant, and what Pillow sees in them."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from tf_cutnmix.data import folder
from tf_cutnmix.errors import InputError, RunError
from tf_cutnmix.predicting import pictures


def write(path: pathlib.Path, size: tuple[int, int] = (6, 4), **options: object) -> np.ndarray:
    """A random picture of `(width, height)`; its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


@pytest.fixture
def photos(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "deep/er/c.tiff", "d[1].png", ".hidden/e.png"):
        write(tmp_path / "photos" / name, format="PNG")
    write(tmp_path / "photos" / "deep" / "f", format="JPEG")
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("places", "found"),
    [
        (["photos"], ["a.JPG", "b.png", "d[1].png", "deep/er/c.tiff", "deep/f"]),
        (["photos/b.png", "photos", "photos/b.png"], ["b.png", "a.JPG", "d[1].png"]),
        (["photos/*.png"], ["b.png", "d[1].png"]),
        (["photos/**/*.tiff"], ["deep/er/c.tiff"]),
        (["photos/d[1].png"], ["d[1].png"]),
        (["photos/notes.txt"], ["notes.txt"]),
    ],
)
def test_files_folders_and_patterns(places: list[str], found: list[str], photos) -> None:
    files, left_out = pictures.find(places)
    names = [path.relative_to("photos").as_posix() for path in files]
    assert names[: len(found)] == found
    assert len(names) == len(set(names))
    assert left_out == ([pathlib.Path("photos/notes.txt")] if "photos" in places else [])


def test_who_names_a_file_gets_it_whatever_its_name(photos: pathlib.Path) -> None:
    for places in (["photos", "photos/notes.txt"], ["photos/notes.txt", "photos"]):
        files, left_out = pictures.find(places)
        assert pathlib.Path("photos/notes.txt") in files
        assert left_out == []


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("photos/x.png", "no such file"),
        ("photos/*.webp", "no file fits"),
        ("empty", "holds no pictures"),
        ("new\nline", "no such file"),
    ],
)
def test_a_place_that_names_nothing_is_refused(place: str, words: str, photos) -> None:
    (photos.parent / "empty").mkdir()
    with pytest.raises(InputError, match=words) as caught:
        pictures.find([place])
    assert "\n" not in str(caught.value)


def test_a_picture_is_turned_as_the_camera_was_held(tmp_path: pathlib.Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = write(tmp_path / "a.png", exif=exif)
    turned = pictures.decode((tmp_path / "a.png").read_bytes())
    np.testing.assert_array_equal(turned, np.rot90(pixels, -1))


def test_a_picture_of_16_bits_has_the_pixels_that_training_gives_it(tmp_path) -> None:
    levels = np.arange(0, 2**16, 2**10, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(levels).save(tmp_path / "deep.tiff")
    content = (tmp_path / "deep.tiff").read_bytes()
    expected = np.repeat((levels // 256).astype(np.uint8)[..., np.newaxis], 3, axis=-1)
    np.testing.assert_array_equal(pictures.decode(content), expected)
    np.testing.assert_array_equal(folder.picture(content), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "GIF"])
def test_half_a_picture_is_none(kind: str, tmp_path: pathlib.Path) -> None:
    write(tmp_path / "whole", (64, 64), format=kind)
    content = (tmp_path / "whole").read_bytes()
    assert pictures.decode(content).shape == (64, 64, 3)
    for part in (content[: len(content) // 2], content[:9], b"", b"no picture at all"):
        with pytest.raises(RunError) as caught:
            pictures.decode(part)
        assert "\n" not in str(caught.value)


def test_a_picture_that_would_fill_the_memory_is_refused(monkeypatch, tmp_path) -> None:
    write(tmp_path / "a.png", (20, 20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with pytest.raises(RunError, match="400 pixels"):
        pictures.decode((tmp_path / "a.png").read_bytes())


def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "a.png", (800, 400))
    small = Image.open(io.BytesIO(pictures.thumbnail(tmp_path / "a.png")))
    assert (small.format, small.size) == ("JPEG", (160, 80))
