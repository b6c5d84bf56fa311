"""A method of online distillation is a named list of terms beside the peers' cross-entropy.

`KD(t -> i)` in the methods' docstrings is `T^2 KL(softmax(t / T) || softmax(z_i / T))`, whose
target `t` gets no gradient unless it says so. Every term is defined for soft labels, as mixed
samples have them. A method's docstring names its paper, the temperature its default, and `ramped`
terms grow to their weights over the first steps. Where the published code and the paper differ,
we say what we took.
"""

import dataclasses
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.ramp import FITS, by_fit, by_time
from tf_cutnmix.errors import InputError, unknown
from tf_cutnmix.mixing.batch import has_label
from tf_cutnmix.networks.sharing import shared_stage

Peers = Sequence[keras.Model]


class Forward(NamedTuple):
    """What one step computed for `n` peers: all that a term may use.

    Attributes:
      step: number of the step, a scalar.
      labels: `[B, K]` float32, mixed; a row that is all zero is no label.
      views: what each peer sees, `[B, H, W, C]`.
      outputs: of each peer on its view: "features" `[B, D_k]`, "logits" `[B, K]`, its stages.
      averages: of each averaged peer on its peer's view, likewise, without gradient; empty
        unless a term asks for them. They saw the images unmixed if a term asks for that.
      parts: by its name, what each part of the method computed.
      mix: a function from distributions `[B, K]` for the unmixed images to those mixed as the
        labels are.
      weighted_labels: the labels `[B, K]`, each part times the weights of its sample and its
        class, for cross-entropies; None: they are the labels.
    """

    step: tf.Tensor
    labels: tf.Tensor
    views: Sequence[tf.Tensor]
    outputs: Sequence[Mapping[str, tf.Tensor]]
    averages: Sequence[Mapping[str, tf.Tensor]] = ()
    parts: Mapping[str, Any] = {}
    mix: Any = None
    weighted_labels: tf.Tensor | None = None

    @property
    def logits(self) -> list[tf.Tensor]:
        """Of each peer, `[B, K]` float32."""
        return [tf.cast(output["logits"], tf.float32) for output in self.outputs]

    @property
    def features(self) -> list[tf.Tensor]:
        """Of each peer, `[B, D_k]`."""
        return [output["features"] for output in self.outputs]

    @property
    def teacher_logits(self) -> list[tf.Tensor]:
        """Of each averaged peer, `[B, K]` float32."""
        return [tf.cast(output["logits"], tf.float32) for output in self.averages]

    @property
    def labelled(self) -> tf.Tensor:
        """Which samples have a label, `[B]` bool."""
        return has_label(self.labels)

    def cross_entropy(self, logits: tf.Tensor) -> tf.Tensor:
        """To the weighted labels, a scalar, for logits `[B, K]`: a mean over labelled samples."""
        labels = self.labels if self.weighted_labels is None else self.weighted_labels
        return losses.cross_entropy(labels, logits, self.labelled)


class StepResult(NamedTuple):
    """What a step found, before it changes anything.

    Attributes:
      logits: of each peer, `[B, K]` float32; none unless something remembers them.
      terms: of the loss, weighted, scalars.
      ramp: what its ramped terms were multiplied by, a scalar.
      gradients: of the loss, of each trained variable; None where it does not depend on one.
      statistics: new values of variables without a gradient; None where there is none.
    """

    logits: Sequence[tf.Tensor]
    terms: Sequence[tf.Tensor]
    ramp: tf.Tensor
    gradients: Sequence[tf.Tensor | None]
    statistics: Sequence[tf.Tensor | None]


class Part(keras.layers.Layer):
    """A layer whose `call` goes from a `Forward` to whatever its method's terms need.

    Attributes:
      frozen_network: a function of images `[B, H, W, C]` uint8, if the part has a network that it
        calls once for each peer and does not train.
    """

    frozen_network: Callable[[tf.Tensor], Any] | None = None

    def __init__(self, name: str) -> None:
        super().__init__(name=name, autocast=False)
        self.built = True

    def call(self, forward: Forward) -> Any:
        raise NotImplementedError


class Memory(Part):
    """A part that has a step train on an earlier batch as well, before its own.

    Before a step `recall(images, labels, step)` gives that batch, and after it
    `remember(images, labels, logits)` takes this one, both before augmentation and mixing.
    """


class HeldOutPart(Part):
    """A part that learns after each epoch from images that the peers do not train on.

    `learn(probabilities, labels, sample_weights)` takes the peers' predictions `[n, N, K]` for
    labels `[N, K]` of weights `[N]`.
    """


def dense(inputs: int, outputs: int, use_bias: bool = True) -> keras.layers.Dense:
    """A built layer from `[..., inputs]` to `[..., outputs]`."""
    layer = keras.layers.Dense(outputs, use_bias=use_bias)
    layer.build((None, inputs))
    return layer


@dataclasses.dataclass(frozen=True)
class Term:
    """One named part of the loss.

    Attributes:
      name: what it is called in the logs, and in `Method.weights`.
      loss: from a `Forward` to a scalar.
      weight: that the scalar is multiplied by, unless the method's settings say otherwise.
      ramped: whether it grows to its weight over the first steps.
      part: what it adds to the peers, if anything; terms may have one part in common.
      uses_averages: whether it needs `Forward.averages`.
      unmixed: whether these are to see the images unmixed.
    """

    name: str
    loss: Callable[[Forward], tf.Tensor]
    weight: float = 1.0
    ramped: bool = False
    part: Part | None = None
    uses_averages: bool = False
    unmixed: bool = False


class Ensemble(Part):
    """A part whose `call` gives logits `[B, K]`, which learn the labels and teach each peer."""

    def terms(self, temperature: float) -> list[Term]:
        def learn(forward: Forward) -> tf.Tensor:
            return forward.cross_entropy(forward.parts[self.name])

        def teach(forward: Forward) -> tf.Tensor:
            targets = [forward.parts[self.name]] * len(forward.logits)
            return losses.imitate_each(targets, forward.logits, temperature)

        return [
            Term(f"{self.name}_cross_entropy", learn, part=self),
            Term(self.name, teach, ramped=True, part=self),
        ]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a method's name stands for.

    Attributes:
      terms: from the method's settings and the peers to its terms beside the cross-entropy.
      temperature: unless the settings say otherwise.
      ramp: part of a run over which ramped terms grow, unless its settings say otherwise.
      min_peers: that it can take.
      shares: whether the peers must share stages; by default all but the last.
      mean_gradient: whether what they share gets the mean of their gradients, not the sum.
      own_views: whether each peer has crops and mirror images of its own by default.
      held_out: whether it learns from held-out images after each epoch.
      leader: index of the peer that the paper deploys, if it names one.
      options: what can be chosen about its terms, by name; of each the choices, its own first.
      fits: whether its ramped terms may follow the peers' fit.
      takes_unlabelled: whether it learns from images without a label, too.
    """

    terms: Callable[["Method", Peers], list[Term]]
    temperature: float = 3.0
    ramp: float = 0.25
    min_peers: int = 1
    shares: bool = False
    mean_gradient: bool = False
    own_views: bool = False
    held_out: bool = False
    leader: int | None = None
    options: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    fits: bool = False
    takes_unlabelled: bool = True


METHODS: dict[str, Recipe] = {}


def recipe(**facts: Any) -> Callable[[Callable], Callable]:
    """Put a function that lists terms into `METHODS` under its own name, with facts of `Recipe`."""

    def register(terms: Callable) -> Callable:
        METHODS[terms.__name__] = Recipe(terms, **facts)
        return terms

    return register


@dataclasses.dataclass(frozen=True)
class Method:
    """A method by name, with its settings.

    Attributes:
      name: a key of `METHODS`.
      weights: of terms by name, 0 or more, in place of their own; 0 switches a term off.
      temperature: above 0; None for the method's own.
      ramp_steps: over how many steps ramped terms grow, 0 or more.
      fit: a key of `ramp.FITS`, by which ramped terms follow how well the peers fit their labels
        in place of `ramp_steps`; "" for the clock.
      options: choices by name, in place of the method's own.
      batch_size: of every batch, for methods that remember one.
      teacher: folder of an export, for methods that learn from a trained one.
      class_names: of the `K` classes, which the export's are compared with; none: it has them in
        the same order.
      class_weights: of the `K` classes, that the labels' parts are multiplied by in every
        cross-entropy; none: all count alike.
      unlabelled: whether batches hold images without a label, whose rows of labels are all zero.
        Terms that imitate are means over all images; cutnmix has a term of its own for these.
      unlabelled_ramp_steps: over how many steps that term grows, 0 or more.

    Raises:
      InputError: there is no such method, or it has no such option.
      ValueError: a setting is out of range.
    """

    name: str = "cutnmix"
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # A number once `__post_init__` is through, which the type of a field cannot say.
    temperature: Any = None
    ramp_steps: int = 0
    fit: str = ""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    batch_size: int | None = None
    teacher: str = ""
    class_names: Sequence[str] = ()
    class_weights: Sequence[float] = ()
    unlabelled: bool = False
    unlabelled_ramp_steps: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"a method is given by its name. Received: {self.name!r}")
        if self.name not in METHODS:
            raise unknown("--method", self.name, METHODS)
        if self.temperature is None:
            object.__setattr__(self, "temperature", self.recipe.temperature)
        for name, kind in _AS_SAVED.items():
            value = getattr(self, name)
            if kind is dict and not isinstance(value, Mapping):
                raise TypeError(f"{name} must be a dictionary. Received: {value!r}")
            object.__setattr__(self, name, kind(value))
        if not isinstance(self.temperature, numbers.Real):
            raise TypeError(f"temperature must be a number. Received: {self.temperature!r}")
        if not 0 < float(self.temperature) < float("inf"):
            raise ValueError(f"temperature must be above 0. Received: {self.temperature}")
        for name in ("ramp_steps", "unlabelled_ramp_steps"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more. Received: {getattr(self, name)}")
        if self.unlabelled and not self.recipe.takes_unlabelled:
            raise InputError(
                f"--method={self.name} has no use for images without a label: leave out "
                "--unlabelled"
            )
        if self.fit and not self.recipe.fits:
            raise InputError(
                f"--method={self.name} knows no --ramp={self.fit}: pass a part of the run"
            )
        if self.fit and self.fit not in FITS:
            raise unknown("--ramp", self.fit, FITS)
        for weight in self.class_weights:
            if not 0 <= weight < float("inf"):
                raise ValueError(f"class_weights must be 0 or more. Received: {weight}")
        for term, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"weights must be 0 or more. Received: {term}={weight}")
        for option, choice in self.options.items():
            if option not in self.recipe.options:
                raise InputError(f"--{option} is no option of --method={self.name}: leave it out")
            if choice not in self.recipe.options[option]:
                raise unknown(f"--{option}", choice, self.recipe.options[option])

    @property
    def recipe(self) -> Recipe:
        return METHODS[self.name]

    def option(self, name: str) -> str:
        """What is chosen of one of its options."""
        return self.options.get(name, self.recipe.options[name][0])

    def terms(self, peers: Peers) -> list[Term]:
        """The terms that are not switched off, with fresh parts, for these peers.

        Raises:
          InputError: the method cannot take them, has no term of a name in `weights`, or no
            term that is not switched off.
        """
        self.check_count(len(peers))
        if self.recipe.shares and shared_stage(peers) is None:
            raise InputError(
                f"--method={self.name} needs peers that share their first stages: pass --share, "
                "or build them with tf_cutnmix.share_stages"
            )
        own = self.recipe.terms(self, peers)
        terms = {term.name: term for term in (Term("cross_entropy", _of_peers), *own)}
        for name, weight in self.weights.items():
            if name not in terms:
                raise unknown(f"term of {self.name} in --weights", name, terms)
            terms[name] = dataclasses.replace(terms[name], weight=float(weight))
        kept = [term for term in terms.values() if term.weight]
        if not kept:
            raise InputError(f"--weights switches every term of {self.name} off: leave one on")
        return kept

    def check_count(self, num_peers: int) -> None:
        """Raise `InputError` if the method needs more peers."""
        if num_peers < self.recipe.min_peers:
            raise InputError(
                f"--method={self.name} needs {self.recipe.min_peers} peers or more and has "
                f"{num_peers}: pass --num_peers={self.recipe.min_peers}"
            )

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _of_peers(forward: Forward) -> tf.Tensor:
    return tf.add_n([forward.cross_entropy(logits) for logits in forward.logits])


# What a saved model's configuration can hold.
_AS_SAVED = {"weights": dict, "options": dict, "class_names": list, "class_weights": list}


def ramp_at(method: Method, forward: Forward) -> tf.Tensor:
    """What ramped terms are multiplied by, a scalar from 0 to 1."""
    if method.fit:
        return by_fit(FITS[method.fit], forward.labels, forward.logits)
    return by_time(forward.step, method.ramp_steps)


def losses_at(terms: Sequence[Term], forward: Forward, ramp: tf.Tensor) -> dict[str, tf.Tensor]:
    """The weighted terms of the loss, by name; their sum is the loss."""
    return {
        term.name: term.weight * (ramp if term.ramped else 1.0) * term.loss(forward)
        for term in terms
    }


def parts_of(terms: Sequence[Term]) -> list[Part]:
    """The parts of all terms, each once."""
    return list({id(term.part): term.part for term in terms if term.part}.values())
