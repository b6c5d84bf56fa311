"""Every method against NumPy in float64: values, gradients, switches and errors."""

import dataclasses
import functools
import importlib
import pathlib
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from tests.distillation.formulas import BATCH, TEMPERATURE, Step, peers_cross_entropy
from tests.distillation.small_models import small_network
from tests.tiny_peers import CLASSES, tiny_peer
from tf_cutnmix import Method
from tf_cutnmix.distillation.method import METHODS, Forward, Term, losses_at, parts_of
from tf_cutnmix.distillation.methods.afd import Discriminators
from tf_cutnmix.distillation.methods.dlb import LastBatch
from tf_cutnmix.distillation.methods.ffl import Fusion
from tf_cutnmix.distillation.methods.kdcl import HeldOutWeights
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks.sharing import share_stages

TEACHER = str(pathlib.Path(__file__).parents[2] / "savedmodels" / "digits_resnet8" / "1")
# Weights of terms that a method has and leaves out unless asked.
OFF_BY_DEFAULT = {"cutnmix": {"mutual": 1.0}}
# Their targets are labels, numbers from outside of the step, or on purpose not stopped.
NOTHING_STOPPED = {
    *("cross_entropy", "adversary", "last_batch", "frozen_teacher", "attention", "leader"),
    *("contrast_own", "contrast_between", "gate_cross_entropy", "fusion_cross_entropy"),
    "feature_classifier_cross_entropy",
}


def random_step(sizes: tuple[int, ...], hard: bool = False, seed: int = 0) -> Step:
    generator = np.random.default_rng(seed)

    def normals(*shape: int, deviation: float = 1.5) -> list:
        """Of each peer, rounded to float32; its own size in place of -1."""
        shapes = [(BATCH, *(size if n == -1 else n for n in shape)) for size in sizes]
        return [generator.normal(0, deviation, s).astype("f4").astype("f8") for s in shapes]

    labels = generator.dirichlet(np.full(CLASSES, 0.3), BATCH)
    if hard:
        labels = np.eye(CLASSES)[[3, 0, 3, 9, 0, 0]]
    return Step(
        labels,
        weighted=labels * generator.uniform(0.5, 2, CLASSES),
        views=[generator.integers(0, 256, (BATCH, 8, 8, 3)).astype("f8") for _ in sizes],
        logits=normals(CLASSES),
        features=normals(-1, deviation=0.7),
        stage1=normals(4, 4, 5),
        stage2=normals(2, 2, -1, deviation=1),
        averages=normals(CLASSES),
    )


def sizes_for(name: str, count: int) -> tuple[int, ...]:
    return (6,) * count if name in ("okddip", "ffl") else (6, 3, 8, 5)[:count]


@functools.cache
def peers_for(name: str, count: int) -> list[keras.Model]:
    peers = [tiny_peer(size) for size in sizes_for(name, count)]
    return share_stages(peers, "stage1") if METHODS[name].shares else peers


def method_of(name: str) -> Method:
    return Method(
        name,
        OFF_BY_DEFAULT.get(name, {}),
        temperature=TEMPERATURE,
        batch_size=BATCH // 2,
        teacher=TEACHER if name == "kd" else "",
    )


@functools.cache
def method_terms(name: str, count: int) -> list[Term]:
    """All terms of a method at their own weights; parts' variables random."""
    terms = method_of(name).terms(peers_for(name, count))
    generator = np.random.default_rng(5)
    for part in parts_of(terms):
        for variable in part.trainable_variables:
            variable.assign(generator.normal(0, 0.5, variable.shape))
        if isinstance(part, LastBatch):
            part.logits.assign(generator.normal(0, 1, part.logits.shape))
        if isinstance(part, HeldOutWeights):
            part.weight.assign(generator.dirichlet(np.ones(count)))
    return terms


def loss_of(terms: list[Term], forward: Forward, ramp: float = 1.0) -> dict[str, tf.Tensor]:
    parts = {part.name: part(forward) for part in parts_of(terms)}
    return losses_at(terms, forward._replace(parts=parts), ramp)


def reference(name: str, s: Step, t: Step, terms: list[Term]) -> dict[str, float]:
    file = METHODS[name].terms.__module__.rpartition(".")[2]
    formula = getattr(importlib.import_module(f"tests.distillation.references.{file}"), name)
    parts = {part.name: part for part in parts_of(terms)}
    return {"cross_entropy": peers_cross_entropy(s), **formula(s, t, parts)}


def tolerance(name: str) -> float:
    # 20 steps of descent come close to SciPy's optimum, not up to it.
    return 0.02 if name == "kdcl_linear" else 2e-4


@pytest.mark.parametrize(("count", "hard"), [(2, False), (3, True)])
@pytest.mark.parametrize("name", METHODS)
def test_every_term_is_its_formula_in_numpy(name: str, count: int, hard: bool) -> None:
    count = max(count, METHODS[name].min_peers)
    terms = method_terms(name, count)
    step = random_step(sizes_for(name, count), hard)
    found = loss_of(terms, step.forward(), ramp=0.4)
    expected = reference(name, step, step, terms)
    assert list(found) == [term.name for term in terms]
    assert set(found) == set(expected)
    for term in terms:
        value, full = found[term.name], (0.4 if term.ramped else 1) * expected[term.name]
        assert value.dtype == tf.float32
        assert np.shape(value) == ()
        np.testing.assert_allclose(value, full, rtol=tolerance(name), err_msg=term.name)
    of_peers = {id(variable) for peer in peers_for(name, count) for variable in peer.variables}
    for part in parts_of(terms):
        assert of_peers.isdisjoint(map(id, part.variables))


@pytest.mark.parametrize("name", METHODS)
def test_a_row_of_labels_that_is_all_zero_counts_nothing_in_a_cross_entropy(name: str) -> None:
    count = max(2, METHODS[name].min_peers)
    step = random_step(sizes_for(name, count))
    step.labels[0] = step.weighted[0] = 0
    forward, moved = step.forward(), step
    for peer in range(count):
        moved = moved.moved("logits", peer, np.eye(BATCH)[:, :1] * np.arange(CLASSES))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(forward.logits)
        found = loss_of(method_terms(name, count), forward)
        entropies = {term: value for term, value in found.items() if "cross_entropy" in term}
    own = [-step.weighted[1:] * log_softmax(z[1:], -1) for z in step.logits]
    np.testing.assert_allclose(found["cross_entropy"], np.sum(own) / (BATCH - 1), rtol=2e-4)
    again = loss_of(method_terms(name, count), moved.forward())
    for term, value in entropies.items():
        np.testing.assert_array_equal(value, again[term], err_msg=term)
        for gradient in tape.gradient(value, forward.logits):
            assert gradient is None or not np.any(gradient[0]), term


def places(step: Step) -> Iterator[tuple[str, int]]:
    """Every array that a peer, or its average, computed."""
    for name in ("logits", "features", "stage1", "stage2", "averages"):
        for peer in range(len(step.logits)):
            yield name, peer


def tape_gradients(terms: list[Term], step: Step) -> dict:
    """For each term, and each place of `places`, its gradient there."""
    forward = step.forward()
    at = {
        (name, k): forward.averages[k]["logits"] if name == "averages" else forward.outputs[k][name]
        for name, k in places(step)
    }
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(list(at.values()))
        found = loss_of(terms, forward)
    gradients = {}
    for term, loss in found.items():
        zero = tf.UnconnectedGradients.ZERO
        values = tape.gradient(loss, list(at.values()), unconnected_gradients=zero)
        gradients[term] = dict(zip(at, map(np.float64, values), strict=True))
    return gradients


@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_finite_differences_whose_stopped_targets_do_not_move(name: str) -> None:
    terms = method_terms(name, 3)
    step = random_step(sizes_for(name, 3), seed=1)
    gradients = tape_gradients(terms, step)
    generator = np.random.default_rng(2)
    differs = dict.fromkeys(gradients, False)
    for place, peer in places(step):
        for _ in range(2):
            way = generator.normal(size=getattr(step, place)[peer].shape)
            ahead, behind = (step.moved(place, peer, sign * 1e-5 * way) for sign in (1, -1))
            stopped = [reference(name, moved, step, terms) for moved in (ahead, behind)]
            full = [reference(name, moved, moved, terms) for moved in (ahead, behind)]
            for term, gradient in gradients.items():
                found = np.sum(gradient[place, peer] * way)
                expected, whole = ((up[term] - down[term]) / 2e-5 for up, down in (stopped, full))
                near = max(tolerance(name), 1e-3)
                error = f"{term}, {place} of peer {peer}"
                np.testing.assert_allclose(found, expected, rtol=near, atol=near, err_msg=error)
                differs[term] |= not np.isclose(found, whole, rtol=0.05, atol=0.01)
    assert {term for term, other in differs.items() if not other} == NOTHING_STOPPED & set(differs)


# The frozen teacher resizes, which XLA cannot compile.
@pytest.mark.parametrize("name", [name for name in METHODS if name != "kd"])
def test_xla_agrees_with_eager_execution(name: str) -> None:
    terms = method_terms(name, 3)
    forward = random_step(sizes_for(name, 3)).forward()
    compiled = tf.function(lambda f: loss_of(terms, f), jit_compile=True)(forward)
    for term, value in loss_of(terms, forward).items():
        near = tolerance(name)
        np.testing.assert_allclose(compiled[term], value, rtol=near, atol=1e-6, err_msg=term)


@pytest.mark.parametrize("name", METHODS)
def test_losses_of_outputs_in_bfloat16_are_float32(name: str, policy) -> None:
    peers = peers_for(name, 3)
    policy("mixed_bfloat16")
    terms = method_of(name).terms(peers)
    found = loss_of(terms, random_step(sizes_for(name, 3)).forward(dtype="bfloat16"))
    for term, value in found.items():
        assert value.dtype == tf.float32, term
        assert np.isfinite(value), term
    assert {v.dtype for part in parts_of(terms) for v in part.variables} <= {"float32"}


def test_what_the_papers_ask_for_is_pinned() -> None:
    """How many peers, whether they share, temperatures and ramps: docs/methods_and_networks.md."""

    def with_a(fact: str) -> set[str]:
        return {name for name, recipe in METHODS.items() if getattr(recipe, fact)}

    assert with_a("mean_gradient") == {"cl_ilr"}
    assert with_a("held_out") == {"kdcl_general"}
    kdcl = {"kdcl", "kdcl_naive", "kdcl_linear", "kdcl_general"}
    assert METHODS.keys() - with_a("takes_unlabelled") == {"independent", "mcl", *kdcl}
    assert with_a("fits") == with_a("options") == {"cutnmix"}


def test_the_first_step_has_no_last_batch() -> None:
    found = loss_of(method_terms("dlb", 2), random_step((6, 3)).forward(step=0))
    assert found["last_batch"] == 0.0
    assert found["cross_entropy"] > 0.0


def test_a_single_peer_learns_nothing_from_others() -> None:
    terms = Method("cutnmix", {"mutual": 1.0}).terms([tiny_peer()])
    found = loss_of(terms, random_step((6,)).forward())
    assert found["feature"] == found["mutual"] == 0.0
    assert found["teacher"] > 0.0


@pytest.mark.parametrize(
    ("name", "weights", "expected", "parts"),
    [
        ("cutnmix", {}, {"teacher": 1, "feature": 0.1}, ["feature_adapters"]),
        ("cutnmix", {"teacher": 0, "feature": 0, "mutual": 0.5}, {"mutual": 0.5}, []),
        ("one", {"gate": 0, "cross_entropy": 2.5}, {"gate_cross_entropy": 1}, ["gate"]),
        ("okddip", {"attention": 0}, {"leader": 1}, []),
    ],
)
def test_a_weight_multiplies_its_term_and_zero_removes_it_and_its_part(
    name, weights, expected, parts
) -> None:
    terms = Method(name, weights).terms(peers_for(name, 3))
    own = {"cross_entropy": weights.get("cross_entropy", 1)}
    assert {term.name: term.weight for term in terms} == {**own, **expected}
    assert [part.name for part in parts_of(terms)] == parts
    step = random_step(sizes_for(name, 3))
    found = loss_of(terms, step.forward())["cross_entropy"]
    np.testing.assert_allclose(found, own["cross_entropy"] * peers_cross_entropy(step), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "CutNmixx"}, "'CutNmixx': did you mean 'cutnmix'"),
        ({"name": None}, "a method is given by its name. Received: None"),
        ({"temperature": "hot"}, "temperature must be a number. Received: 'hot'"),
        ({"options": 3}, "options must be a dictionary. Received: 3"),
        ({"class_weights": [float("nan")]}, "class_weights must be 0 or more. Received: nan"),
        ({"temperature": 0.0}, "temperature must be above 0. Received: 0.0"),
        ({"temperature": float("nan")}, "temperature must be above 0. Received: nan"),
        ({"temperature": float("inf")}, "temperature must be above 0. Received: inf"),
        ({"weights": 3}, "weights must be a dictionary. Received: 3"),
        ({"ramp_steps": -1}, "ramp_steps must be 0 or more. Received: -1"),
        ({"unlabelled_ramp_steps": -1}, "unlabelled_ramp_steps must be 0 or more. Received: -1"),
        ({"ramp_steps": float("nan")}, "ramp_steps must be 0 or more. Received: nan"),
        ({"weights": {"mutual": -0.1}}, "0 or more. Received: mutual=-0.1"),
        ({"weights": {"mutual": float("nan")}}, "0 or more. Received: mutual=nan"),
        ({"class_weights": [1.0, -1.0]}, "class_weights must be 0 or more. Received: -1.0"),
        ({"fit": "fti"}, "--ramp.*'fti'.*fit"),
        ({"name": "dml", "fit": "fit"}, "--method=dml knows no --ramp=fit: pass a part"),
        ({"name": "dml", "options": {"ensemble_view": "clean"}}, "no option of --method=dml"),
        ({"options": {"ensemble_view": "blurred"}}, "blurred.*clean, mixed"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(settings: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        Method(**settings)


def tiny_peers(*sizes: int) -> list[keras.Model]:
    return [tiny_peer(size) for size in sizes]


def one_stage(strides: int) -> keras.Model:
    """A peer whose last map has another name than that of `tiny_peer`."""
    images = keras.Input((8, 8, 3))
    ends = {"stage1": keras.layers.Conv2D(6, 3, strides, padding="same")(images)}
    ends["features"] = keras.layers.GlobalAveragePooling2D()(ends["stage1"])
    ends["logits"] = keras.layers.Dense(CLASSES)(ends["features"])
    return keras.Model(images, ends)


@pytest.mark.parametrize(
    ("method", "peers", "message"),
    [
        (("dml", {"mutuel": 1.0}), (6, 6), "'mutuel': did you mean 'mutual'"),
        (("dml", {"cross_entropy": 0, "mutual": 0}), (6, 6), "switches every term of dml off"),
        (("okddip",), (6, 6), "okddip needs 3 peers .*--num_peers=3"),
        (("pcl",), (6, 6), "pcl needs peers that share .*--share"),
        (("okddip",), (6, 6, 3), r"okddip .* features, .* unlike sizes \[6, 6, 3\]"),
        (("ffl",), lambda: share_stages(tiny_peers(6, 3), "stage1"), r"ffl .* unlike .*\(2, 2, 3"),
        (
            ("afd",),
            lambda: [tiny_peer(6), one_stage(2)],
            "afd .* last maps, which have unlike sizes",
        ),
        (("afd",), lambda: [tiny_peer(6), small_network()], "peer 2, .*, names no stages"),
        (("kd",), (6,), "--method=kd needs --teacher"),
        (("dlb",), (6,), "--method=dlb needs .*batch_size"),
    ],
)
def test_peers_that_a_method_cannot_take_are_refused(method, peers, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Method(*method).terms(peers() if callable(peers) else tiny_peers(*peers))


def test_methods_of_last_maps_find_them_whatever_their_name() -> None:
    peers = [tiny_peer(6), one_stage(4)]
    outputs = [peer(np.zeros([BATCH, 8, 8, 3], "f4")) for peer in peers]
    forward = Forward(tf.constant(0), tf.zeros([BATCH, CLASSES]), [], outputs)
    assert Fusion(peers)(forward).shape == (BATCH, CLASSES)
    assert np.all(np.isfinite(Discriminators(peers)(forward)))


def test_the_config_makes_an_equal_method_that_does_not_change() -> None:
    settings = {"ramp_steps": 7, "fit": "fit", "options": {"ensemble_view": "clean"}}
    names = {"batch_size": 3, "teacher": "x", "class_names": ("a", "b"), "class_weights": (1, 2.5)}
    names |= {"unlabelled": True, "unlabelled_ramp_steps": 4}
    method = Method("cutnmix", {"feature": 0.5}, 4.0, **settings, **names)
    assert Method(**method.get_config()) == method
    with pytest.raises(InputError, match="--method=mcl has no use for images without a label"):
        Method("mcl", unlabelled=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.temperature = 1.0
