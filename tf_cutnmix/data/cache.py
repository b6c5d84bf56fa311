"""Images that were read once, kept on disk for every later run and all workers."""

import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import zipfile

import numpy as np

from tf_cutnmix import files
from tf_cutnmix.data.images import Facts, Images, Source, collect, facts_of
from tf_cutnmix.data.resizing import Target
from tf_cutnmix.errors import InputError

# Another number where what is in an entry, or how images are made for it, becomes another.
_FORMAT = 2


def load(cache_dir: pathlib.Path, source: Source, split: str, target: Target | None) -> Images:
    """The images of a source, from the cache; the first who asks for them puts them there.

    An entry is a folder, named after the data set, the size and a digest of all that the images
    follow from: the split, the size, the classes, and names, sizes and dates of the files. It is
    there whole or not at all. Whoever asks while another process makes it waits.

    Args:
      cache_dir: is made if it is missing, and written to only for what it does not hold yet.
      source: is read if need be.
      split: that it is, in TFDS syntax.
      target: what its images are resized to; None as they are stored.

    Raises:
      InputError: the source or the entry cannot be read, or the disk does not take it.
    """
    files.check_names(cache_dir)
    entry = cache_dir / _name(source, split, target)
    if not entry.is_dir():
        with files.waiting(cache_dir, entry.name, option="cache_dir"):
            if not entry.is_dir():
                _build(entry, source)
    notes = (*source.notes, f"images lie in {entry}")
    return _read(entry, source.class_names)._replace(notes=notes, name=source.name)


def _name(source: Source, split: str, target: Target | None) -> str:
    key = [str(_FORMAT), split, str(target or 0), *source.class_names, *source.made_of()]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    # Of a folder the last of its names, without what file systems or people stumble over.
    place = re.sub(r"[^A-Za-z0-9._-]+", "_", pathlib.Path(source.place).name)[:40].strip("._")
    return f"{place or 'images'}-{target or 'stored'}-{digest}"


def _build(entry: pathlib.Path, source: Source) -> None:
    with files.scratch(entry.parent, f".{entry.name}-") as made:
        new = made / "new"
        try:
            new.mkdir()
            images = collect(source, lambda shape: _allocate(new / "pixels.npy", shape))
            arrays = {"labels": images.labels, **facts_of(images.pixels)._asdict()}
            if images.contents is not None:
                arrays["contents"] = images.contents
            np.savez(new / "facts.npz", **arrays)
            for path in (new / "pixels.npy", new / "facts.npz"):
                files.sync(path)
            os.rename(new, entry)
        except OSError as error:
            raise InputError(f"--cache_dir: {entry} cannot be written: {error.strerror}") from error


def _allocate(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
    """A uint8 array in a file, whose whole room is taken at once: a map on a full disk kills."""
    size, free = math.prod(shape), shutil.disk_usage(path.parent).free
    if size > free:
        raise InputError(
            f"--cache_dir: the images take {size / 2**30:.1f} GiB and its disk has "
            f"{free / 2**30:.1f}: name a folder on a larger one, or lower --image_size"
        )
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return pixels


def _read(entry: pathlib.Path, class_names: tuple[str, ...]) -> Images:
    try:
        with np.load(entry / "facts.npz") as known:
            labels, *facts = (known[name] for name in ("labels", *Facts._fields))
            contents = known.get("contents")
        pixels = np.load(entry / "pixels.npy", mmap_mode="r")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{entry} cannot be read, remove it: {error}") from error
    return Images(pixels, labels, class_names, facts=Facts(*facts), contents=contents)
