"""Every method against NumPy in float64: values, gradients, switches, ramps and errors."""

import dataclasses
import functools
import importlib
import pathlib
import pkgutil
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.distillation.formulas import BATCH, TEMPERATURE, Reference, Step, peers_cross_entropy
from tests.tiny_peers import CLASSES, tiny_peer
from tf_cutnmix import Method
from tf_cutnmix.distillation.method import METHODS, Forward, Term, losses_at, parts_of
from tf_cutnmix.distillation.methods.dlb import LastBatch
from tf_cutnmix.distillation.methods.kdcl import HeldOutWeights
from tf_cutnmix.distillation.ramp import by_time
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks.sharing import share_stages

TEACHER = str(pathlib.Path(__file__).parents[2] / "savedmodels" / "digits_resnet8" / "1")
COUNTS = [(name, count) for name in METHODS for count in (2, 3, 4)]
POSSIBLE = [(name, count) for name, count in COUNTS if count >= METHODS[name].min_peers]
# Weights of terms that a method has and leaves out unless asked.
OFF_BY_DEFAULT = {"cutnmix": {"mutual": 1.0}}


def random_step(sizes: tuple[int, ...], hard: bool = False, seed: int = 0) -> Step:
    generator = np.random.default_rng(seed)

    def normals(*shape: int) -> list:
        return [generator.normal(0, 1.5, (BATCH, *shape)).astype("f4").astype("f8") for _ in sizes]

    labels = generator.dirichlet(np.full(CLASSES, 0.3), BATCH)
    if hard:
        labels = np.eye(CLASSES)[[3, 0, 3, 9, 0, 0]]
    views = [generator.integers(0, 256, (BATCH, 8, 8, 3)).astype("f8") for _ in sizes]
    features = [generator.normal(0, 0.7, (BATCH, size)).astype("f4").astype("f8") for size in sizes]
    stage2 = [generator.normal(0, 1, (BATCH, 2, 2, s)).astype("f4").astype("f8") for s in sizes]
    logits, averages = normals(CLASSES), normals(CLASSES)
    return Step(labels, views, logits, features, normals(4, 4, 5), stage2, averages)


def sizes_for(name: str, count: int) -> tuple[int, ...]:
    alike = METHODS[name].alike or name == "ffl"
    return (6,) * count if alike else (6, 3, 8, 5)[:count]


@functools.cache
def peers_for(name: str, count: int) -> list[keras.Model]:
    peers = [tiny_peer(size) for size in sizes_for(name, count)]
    return share_stages(peers, "stage1") if METHODS[name].shares else peers


@functools.cache
def method_terms(name: str, count: int) -> list[Term]:
    """All terms of a method, those that are on at its own weights; parts' variables random."""
    teacher = TEACHER if name == "kd" else ""
    settings = {"temperature": TEMPERATURE, "batch_size": BATCH // 2, "teacher": teacher}
    method = Method(name, OFF_BY_DEFAULT.get(name, {}), **settings)
    terms = method.terms(peers_for(name, count))
    generator = np.random.default_rng(5)
    for part in parts_of(terms):
        for variable in part.trainable_variables:
            variable.assign(generator.normal(0, 0.5, variable.shape))
        if isinstance(part, LastBatch):
            part.logits.assign(generator.normal(0, 1, part.logits.shape))
        if isinstance(part, HeldOutWeights):
            part.weight.assign(generator.dirichlet(np.ones(count)))
    return terms


def with_parts(forward: Forward, terms: list[Term]) -> Forward:
    return forward._replace(parts={part.name: part(forward) for part in parts_of(terms)})


def loss_of(terms: list[Term], forward: Forward, ramp_steps: int = 0) -> dict[str, tf.Tensor]:
    ramp = by_time(forward.step, ramp_steps)
    return losses_at(terms, with_parts(forward, terms), ramp)


REFERENCES: dict[str, Reference] = {}
for file in pkgutil.iter_modules([str(pathlib.Path(__file__).parent / "references")]):
    REFERENCES |= importlib.import_module(f"tests.distillation.references.{file.name}").REFERENCES
# The cross-entropy of the peers has no target but the labels.
NOTHING_STOPPED = {"cross_entropy"}.union(*(r.unstopped for r in REFERENCES.values()))


def reference(name: str, s: Step, t: Step, terms: list[Term]) -> dict[str, float]:
    parts = {part.name: part for part in parts_of(terms)}
    return {"cross_entropy": peers_cross_entropy(s), **REFERENCES[name].terms(s, t, parts)}


def tolerance(name: str) -> float:
    # 20 steps of descent come close to SciPy's optimum, not up to it.
    return 0.02 if name == "kdcl_linear" else 2e-4


def test_every_method_has_a_reference() -> None:
    assert set(REFERENCES) == set(METHODS)


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
@pytest.mark.parametrize(("name", "count"), POSSIBLE)
def test_every_term_is_its_formula_in_numpy(name: str, count: int, hard: bool) -> None:
    terms = method_terms(name, count)
    step = random_step(sizes_for(name, count), hard)
    found = loss_of(terms, step.forward())
    expected = reference(name, step, step, terms)
    assert set(found) == set(expected)
    for term, value in expected.items():
        assert found[term].dtype == tf.float32
        assert np.shape(found[term]) == ()
        np.testing.assert_allclose(found[term], value, rtol=tolerance(name), err_msg=term)


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
    count = 3
    terms = method_terms(name, count)
    step = random_step(sizes_for(name, count), seed=1)
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


@pytest.mark.parametrize("name", METHODS)
def test_every_variable_of_a_part_learns_or_remembers(name: str) -> None:
    terms = method_terms(name, 3)
    learn = [variable for part in parts_of(terms) for variable in part.trainable_variables]
    with tf.GradientTape() as tape:
        found = loss_of(terms, random_step(sizes_for(name, 3)).forward())
        total = tf.add_n(list(found.values()))
    for variable, gradient in zip(learn, tape.gradient(total, learn), strict=True):
        assert gradient is not None, variable.path
        assert np.all(np.isfinite(gradient)), variable.path
    assert bool(learn) == REFERENCES[name].trains_a_part


# The frozen teacher resizes, which XLA cannot compile.
@pytest.mark.parametrize("name", [name for name in METHODS if name != "kd"])
def test_xla_agrees_with_eager_execution(name: str) -> None:
    terms = method_terms(name, 3)
    step = random_step(sizes_for(name, 3))

    def loss(forward: Forward) -> dict[str, tf.Tensor]:
        return loss_of(terms, forward, ramp_steps=10)

    compiled = tf.function(loss, jit_compile=True)(step.forward())
    for term, value in loss(step.forward()).items():
        near = tolerance(name)
        np.testing.assert_allclose(compiled[term], value, rtol=near, atol=1e-6, err_msg=term)


@pytest.fixture
def mixed_precision() -> Iterator[None]:
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("name", METHODS)
def test_losses_of_outputs_in_bfloat16_are_float32(name: str, mixed_precision: None) -> None:
    teacher = TEACHER if name == "kd" else ""
    method = Method(name, batch_size=BATCH // 2, teacher=teacher)
    terms = method.terms(peers_for(name, 3))
    found = loss_of(terms, random_step(sizes_for(name, 3)).forward(dtype="bfloat16"))
    for term, value in found.items():
        assert value.dtype == tf.float32, term
        assert np.isfinite(value), term


@pytest.mark.parametrize("name", METHODS)
def test_ramped_terms_grow_and_the_others_do_not(name: str) -> None:
    terms = method_terms(name, 3)
    step = random_step(sizes_for(name, 3))
    full = loss_of(terms, step.forward(30))
    for term, value in loss_of(terms, step.forward(30), ramp_steps=100).items():
        factor = np.exp(-5 * 0.7**2) if term in REFERENCES[name].ramped else 1.0
        np.testing.assert_allclose(value, factor * full[term], rtol=1e-5, err_msg=term)


def test_the_first_step_has_no_last_batch() -> None:
    found = loss_of(method_terms("dlb", 2), random_step((6, 3)).forward(step=0))
    assert found["last_batch"] == 0.0
    assert found["cross_entropy"] > 0.0


def test_the_peers_own_logits_teach_in_cutnmix_only_if_they_are_given_a_weight() -> None:
    names = [term.name for term in Method("cutnmix").terms(peers_for("cutnmix", 2))]
    assert names == ["cross_entropy", "teacher", "feature"]
    terms = Method("cutnmix", {"teacher": 0, "mutual": 0.5}).terms(peers_for("cutnmix", 2))
    assert [(t.name, t.weight) for t in terms][1:] == [("feature", 0.1), ("mutual", 0.5)]
    assert not any(term.uses_averages for term in terms)


def test_a_single_peer_learns_nothing_from_others() -> None:
    terms = Method("cutnmix", {"mutual": 1.0}).terms([tiny_peer()])
    found = loss_of(terms, random_step((6,)).forward())
    assert found["feature"] == found["mutual"] == 0.0
    assert found["teacher"] > 0.0


@pytest.mark.parametrize("name", METHODS)
def test_the_temperature_is_that_of_the_paper_unless_given(name: str) -> None:
    assert Method(name).temperature == REFERENCES[name].temperature
    assert Method(name, temperature=7.0).temperature == 7.0


def test_the_leader_is_the_peer_that_the_paper_deploys() -> None:
    leaders = {name: recipe.leader for name, recipe in METHODS.items() if recipe.leader is not None}
    assert leaders == {"one": 0, "okddip": -1}


@pytest.mark.parametrize("name", METHODS)
def test_a_weight_multiplies_its_term_and_zero_removes_it_and_its_part(name: str) -> None:
    every = method_terms(name, 3)
    teacher = TEACHER if name == "kd" else ""
    settings = {"temperature": TEMPERATURE, "batch_size": BATCH // 2, "teacher": teacher}
    off = {term.name: 0.0 for term in every if term.part}
    weights = {**OFF_BY_DEFAULT.get(name, {}), **off, "cross_entropy": 2.5}
    kept = Method(name, weights, **settings).terms(peers_for(name, 3))
    assert [term.name for term in kept] == [t.name for t in every if t.name not in off]
    assert parts_of(kept) == []
    step = random_step(sizes_for(name, 3))
    found = loss_of(kept, step.forward())
    np.testing.assert_allclose(found["cross_entropy"], 2.5 * peers_cross_entropy(step), rtol=1e-5)


def test_a_part_stays_while_one_of_its_terms_does() -> None:
    terms = Method("one", {"gate": 0.0}).terms(peers_for("one", 2))
    assert [term.name for term in terms] == ["cross_entropy", "gate_cross_entropy"]
    assert [part.name for part in parts_of(terms)] == ["gate"]


def test_a_part_of_several_terms_is_one() -> None:
    assert len(parts_of(method_terms("mcl", 3))) == 1


def test_a_weight_of_an_unknown_term_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match="'mutuel': did you mean 'mutual'"):
        Method("dml", {"mutuel": 1.0}).terms(peers_for("dml", 2))


def test_a_method_without_a_term_left_is_refused() -> None:
    with pytest.raises(InputError, match="switches every term of dml off"):
        Method("dml", {"cross_entropy": 0.0, "mutual": 0.0}).terms(peers_for("dml", 2))


@pytest.mark.parametrize(
    ("name", "nearest"), [("cutnmixx", "cutnmix"), ("CutNmix", "cutnmix"), ("indep", "independent")]
)
def test_an_unknown_method_is_refused_with_the_nearest_one(name: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"did you mean '{nearest}'") as error:
        Method(name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("temperature", 0.0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("ramp_steps", -1),
        ("ramp_steps", float("nan")),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{setting} must be .* Received: {value}"):
        Method(**{setting: value})


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_a_weight_out_of_range_is_refused_by_name(weight: float) -> None:
    with pytest.raises(ValueError, match=f"0 or more. Received: mutual={weight}"):
        Method("dml", {"mutual": weight})


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].min_peers > 1])
def test_too_few_peers_are_refused_with_how_many_it_takes(name: str) -> None:
    least = METHODS[name].min_peers
    with pytest.raises(InputError, match=f"{name} needs {least} peers .*--num_peers={least}"):
        Method(name).terms([tiny_peer() for _ in range(least - 1)])


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].shares])
def test_peers_that_share_nothing_are_refused_where_they_must_share(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} needs peers that share .*--share"):
        Method(name).terms([tiny_peer(), tiny_peer()])


def test_features_of_unlike_sizes_are_refused_where_they_are_compared() -> None:
    with pytest.raises(InputError, match=r"okddip .* unlike sizes \[6, 6, 3\]"):
        Method("okddip").terms([tiny_peer(6), tiny_peer(6), tiny_peer(3)])


def test_last_maps_of_unlike_shapes_are_refused_where_they_are_fused() -> None:
    peers = share_stages([tiny_peer(6), tiny_peer(3)], "stage1")
    with pytest.raises(InputError, match=r"ffl fuses .* unlike shapes .*\(2, 2, 3\)"):
        Method("ffl").terms(peers)


@pytest.mark.parametrize(("name", "words"), [("kd", "--teacher"), ("dlb", "batch_size")])
def test_what_a_method_cannot_do_without_is_asked_for(name: str, words: str) -> None:
    with pytest.raises(InputError, match=f"--method={name} needs .*{words}"):
        Method(name).terms([tiny_peer()])


@pytest.mark.parametrize("name", METHODS)
def test_the_config_makes_an_equal_method(name: str) -> None:
    method = Method(name, {"cross_entropy": 0.5}, 4.0, ramp_steps=7, batch_size=3, teacher="x")
    assert Method(**method.get_config()) == method


def test_a_method_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Method().temperature = 1.0
