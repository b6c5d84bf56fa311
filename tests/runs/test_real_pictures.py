"""A folder as people have them: photos of several kinds, in sub-folders, turned by a camera."""

import pathlib

import matplotlib.cbook
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import sklearn.datasets
import tensorflow as tf

from tf_cutnmix import Config, train_and_evaluate
from tf_cutnmix.data import load

KINDS = ("jpg", "png", "webp", "gif", "bmp", "tiff", "jfif")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Three classes of parts of photos; one is of fewer pictures and lies one folder deeper."""
    folder = tmp_path_factory.mktemp("photos")
    china, flower = sklearn.datasets.load_sample_images().images
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        hopper = np.asarray(PIL.Image.open(file).convert("RGB"))
    classes = {"China": (china, 21), "flower": (flower, 21), "Hopper/a": (hopper, 6)}
    for name, (photo, count) in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            top, left = 10 * number, 7 * number
            part = PIL.Image.fromarray(photo[top : top + 120, left : left + 160])
            ending = KINDS[number % len(KINDS)]
            exif = PIL.Image.Exif()
            exif[0x0112] = number % 8 + 1
            kind = {"jpg": "JPEG", "jfif": "JPEG"}.get(ending, ending)
            options = {"exif": exif} if kind in ("JPEG", "tiff") else {}
            part.save(folder / name / f"{number:02}.{ending.upper()}", kind, **options)
    (folder / "China" / "Thumbs.db").write_bytes(b"no picture")
    (folder / "flower" / "a photo").write_bytes((folder / "flower" / "00.JPG").read_bytes())
    return folder


@pytest.mark.long
@pytest.mark.usefixtures("eagerly")
def test_a_real_folder_is_trained_on_and_its_export_reads_its_files(photos, tmp_path, capsys):
    config = Config(
        dataset=str(photos),
        image_size="40x32",
        resize="crop",
        arch="tiny_networks:tiny",
        num_peers=1,
        epochs=1,
        balance="weights",
        export="teacher",
        export_dir=str(tmp_path / "exports"),
        workdir=str(tmp_path / "run"),
        steps=1,
    )
    result = train_and_evaluate(config)
    printed = capsys.readouterr().out.splitlines()
    assert f"{photos}: 49 pictures of 3 classes; skipped 1 .db" in printed
    assert any(
        line.endswith("1 epochs of 4 steps of 8 images (--batch_size): 4") for line in printed
    )
    assert not any("--balance=weights" in line for line in printed)
    assert any(
        line.startswith("equal images: 1 of the 40 training images repeat") for line in printed
    )
    assert "--batch_size=8\n" in (tmp_path / "run" / "flags.cfg").read_text()

    test = load(str(photos), "test", image_size="40x32", resize="crop")
    names = [photos / "flower" / f"{n:02}.{KINDS[n % 7].upper()}" for n in (4, 9, 14, 19)]
    files = [name.read_bytes() for name in names]
    served = tf.saved_model.load(result["exports"]["teacher"]).signatures
    answer = served["serve_bytes"](bytes=tf.constant([*files, b"broken"]))
    assert answer["valid"].numpy().tolist() == [name.suffix != ".TIFF" for name in names] + [False]
    seen = [
        pixels
        for pixels, label in zip(test.pixels, test.labels, strict=True)
        if test.class_names[label] == "flower"
    ]
    expected = served["serving_default"](images=tf.constant(np.stack(seen)))
    valid = answer["valid"].numpy()[:-1]
    np.testing.assert_allclose(
        answer["logits"].numpy()[:-1][valid], expected["logits"].numpy()[valid], rtol=1e-5
    )
    assert not np.any(answer["probabilities"].numpy()[-1])
