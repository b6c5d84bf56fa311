"""A method of online distillation is a named list of terms.

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
import numpy as np
import tensorflow as tf

from tf_cutnmix.distillation.peers import feature_sizes
from tf_cutnmix.distillation.ramp import FITS, by_fit, by_time
from tf_cutnmix.errors import InputError, unknown
from tf_cutnmix.networks.sharing import shared_stage


class Forward(NamedTuple):
    """What one step computed for `n` peers: all that a term may use.

    Attributes:
      step: number of the step, a scalar.
      labels: `[B, K]` float32, mixed.
      views: what each peer sees, `[B, H, W, C]`.
      outputs: of each peer on its view: "features" `[B, D_k]`, "logits" `[B, K]`, its stages.
      averages: of each averaged peer on its peer's view, likewise, without gradient; empty
        unless a term asks for them. They saw the images unmixed if a term asks for that.
      parts: by its name, what each part of the method computed.
      mix: a function from distributions `[B, K]` for the unmixed images to those mixed as the
        labels are.
      counted: the labels `[B, K]`, each part times the weights of its sample and its class: what
        cross-entropies take. None stands for the labels.
    """

    step: tf.Tensor
    labels: tf.Tensor
    views: Sequence[tf.Tensor]
    outputs: Sequence[Mapping[str, tf.Tensor]]
    averages: Sequence[Mapping[str, tf.Tensor]] = ()
    parts: Mapping[str, Any] = {}
    mix: Any = None
    counted: tf.Tensor | None = None

    @property
    def weighted_labels(self) -> tf.Tensor:
        """The labels `[B, K]` as they count."""
        return self.labels if self.counted is None else self.counted

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
    """A part that has a step train on an earlier batch as well, before its own."""

    def recall(
        self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The earlier batch before mixing: images of the dtype of these, labels `[B, K]`."""
        raise NotImplementedError

    def remember(self, images: tf.Tensor, labels: tf.Tensor, logits: Sequence[tf.Tensor]) -> None:
        """Take a batch, before augmentation and mixing, and what the peers said of it.

        Args:
          images: `[B, H, W, C]`.
          labels: `[B, K]`.
          logits: of each peer; the last `B` rows are on this batch's views.
        """
        raise NotImplementedError


class HeldOutPart(Part):
    """A part that learns after each epoch from images that the peers do not train on."""

    def learn(
        self, probabilities: np.ndarray, labels: np.ndarray, sample_weights: np.ndarray
    ) -> None:
        """Learn from the peers' predictions `[n, N, K]` for labels `[N, K]` of weights `[N]`."""
        raise NotImplementedError


def dense(inputs: int, outputs: int, use_bias: bool = True) -> keras.layers.Dense:
    """A built layer from `[..., inputs]` to `[..., outputs]`."""
    layer = keras.layers.Dense(outputs, use_bias=use_bias)
    layer.build((None, inputs))
    return layer


def batch_norm() -> keras.layers.BatchNormalization:
    """Keras' layer with the constants that the networks use."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)


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


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a method's name stands for.

    Attributes:
      terms: from the method's settings and the peers to its terms.
      temperature: unless the settings say otherwise.
      ramp: part of a run over which ramped terms grow, unless its settings say otherwise.
      min_peers: that it can take.
      alike: whether the peers' features must be of one size.
      shares: whether the peers must share stages; by default all but the last.
      mean_gradient: whether what they share gets the mean of their gradients, not the sum.
      own_views: whether each peer has crops and mirror images of its own by default.
      held_out: whether it learns from held-out images after each epoch.
      leader: index of the peer that the paper deploys, if it names one.
      options: what can be chosen about its terms, by name; of each the choices, its own first.
      fits: whether its ramped terms may follow the peers' fit.
    """

    terms: Callable[["Method", Sequence[keras.Model]], list[Term]]
    temperature: float = 3.0
    ramp: float = 0.25
    min_peers: int = 1
    alike: bool = False
    shares: bool = False
    mean_gradient: bool = False
    own_views: bool = False
    held_out: bool = False
    leader: int | None = None
    options: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    fits: bool = False


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

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"a method is given by its name. Received: {self.name!r}")
        if self.name not in METHODS:
            raise unknown("--method", self.name, METHODS)
        for name in ("class_names", "class_weights"):  # a config has lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.temperature is None:
            object.__setattr__(self, "temperature", self.recipe.temperature)
        if not isinstance(self.temperature, numbers.Real):
            raise TypeError(f"temperature must be a number. Received: {self.temperature!r}")
        if not 0 < float(self.temperature) < float("inf"):
            raise ValueError(f"temperature must be above 0. Received: {self.temperature}")
        if not self.ramp_steps >= 0:
            raise ValueError(f"ramp_steps must be 0 or more. Received: {self.ramp_steps}")
        if self.fit and not self.recipe.fits:
            raise InputError(
                f"--method={self.name} knows no --ramp={self.fit}: pass a part of the run"
            )
        if self.fit and self.fit not in FITS:
            raise unknown("--ramp", self.fit, FITS)
        for weight in self.class_weights:
            # Of a text, which is a sequence too, no part compares with a number.
            if not 0 <= weight < float("inf"):
                raise ValueError(f"class_weights must be 0 or more. Received: {weight}")
        if not isinstance(self.options, Mapping):
            raise TypeError(f"options must be choices by name. Received: {self.options!r}")
        for option, choice in self.options.items():
            if option not in self.recipe.options:
                raise InputError(f"--{option} is no option of --method={self.name}: leave it out")
            if choice not in self.recipe.options[option]:
                raise unknown(f"--{option}", choice, self.recipe.options[option])
        if not isinstance(self.weights, Mapping):
            raise TypeError(f"weights must be numbers by term. Received: {self.weights!r}")
        for term, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"weights must be 0 or more. Received: {term}={weight}")

    @property
    def recipe(self) -> Recipe:
        return METHODS[self.name]

    def option(self, name: str) -> str:
        """What is chosen of one of its options."""
        return self.options.get(name, self.recipe.options[name][0])

    def terms(self, peers: Sequence[keras.Model]) -> list[Term]:
        """The terms that are not switched off, with fresh parts, for these peers.

        Raises:
          InputError: the method cannot take them, has no term of a name in `weights`, or no
            term that is not switched off.
        """
        self._check(peers)
        terms = self.recipe.terms(self, peers)
        for name in self.weights:
            if name not in [term.name for term in terms]:
                raise unknown(f"term of {self.name} in --weights", name, [t.name for t in terms])
        weighted = [
            dataclasses.replace(term, weight=float(self.weights.get(term.name, term.weight)))
            for term in terms
        ]
        kept = [term for term in weighted if term.weight]
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
        return {
            **dataclasses.asdict(self),
            "weights": dict(self.weights),
            "options": dict(self.options),
            "class_names": list(self.class_names),
            "class_weights": list(self.class_weights),
        }

    def _check(self, peers: Sequence[keras.Model]) -> None:
        self.check_count(len(peers))
        sizes = feature_sizes(peers)
        if self.recipe.alike and len(set(sizes)) > 1:
            raise InputError(
                f"--method={self.name} compares the peers' features, which have unlike sizes "
                f"{sizes}: name one architecture"
            )
        if self.recipe.shares and shared_stage(peers) is None:
            raise InputError(
                f"--method={self.name} needs peers that share their first stages: pass --share, "
                "or build them with tf_cutnmix.share_stages"
            )


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
