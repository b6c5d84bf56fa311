"""A method of online distillation is a named list of terms.

`KD(t -> i)` below is `T^2 KL(softmax(t / T) || softmax(z_i / T))`, whose target `t` gets no
gradient unless it says so. Every term is defined for soft labels, as mixed samples have them.
A method's docstring names its paper, the temperature its default, and `ramped` terms grow to
their weights over the first steps. Where the published code and the paper differ, we say what
we took.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix import losses
from tf_cutnmix.errors import InputError, unknown
from tf_cutnmix.parts import (
    Attention,
    Embeddings,
    FeatureAdapters,
    FeatureClassifier,
    Forward,
    FrozenTeacher,
    Fusion,
    Gate,
    HeldOutWeights,
    LastBatch,
    Part,
    feature_sizes,
)
from tf_cutnmix.sharing import shared_stage


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
    """

    name: str
    loss: Callable[[Forward], tf.Tensor]
    weight: float = 1.0
    ramped: bool = False
    part: Part | None = None
    uses_averages: bool = False


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a method's name stands for.

    Attributes:
      terms: from the method's settings and the peers to its terms.
      temperature: unless the settings say otherwise.
      min_peers: that it can take.
      alike: whether the peers' features must be of one size.
      shares: whether the peers must share stages; by default all but the last.
      mean_gradient: whether what they share gets the mean of their gradients, not the sum.
      own_views: whether each peer has crops and mirror images of its own by default.
      held_out: whether it learns from held-out images after each epoch.
      leader: index of the peer that the paper deploys, if it names one.
    """

    terms: Callable[["Method", Sequence[keras.Model]], list[Term]]
    temperature: float = 3.0
    min_peers: int = 1
    alike: bool = False
    shares: bool = False
    mean_gradient: bool = False
    own_views: bool = False
    held_out: bool = False
    leader: int | None = None


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
      batch_size: of every batch; `dlb` needs to know it.
      teacher: folder of the export that `kd` learns from.

    Raises:
      InputError: there is no such method.
      ValueError: a setting is out of range.
    """

    name: str = "cutnmix"
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    temperature: float | None = None
    ramp_steps: int = 0
    batch_size: int | None = None
    teacher: str = ""

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise unknown("--method", self.name, METHODS)
        if self.temperature is None:
            object.__setattr__(self, "temperature", self.recipe.temperature)
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be above 0. Received: {self.temperature}")
        if not self.ramp_steps >= 0:
            raise ValueError(f"ramp_steps must be 0 or more. Received: {self.ramp_steps}")
        for term, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"weights must be 0 or more. Received: {term}={weight}")

    @property
    def recipe(self) -> Recipe:
        return METHODS[self.name]

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
        return {**dataclasses.asdict(self), "weights": dict(self.weights)}

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


def losses_at(terms: Sequence[Term], forward: Forward, ramp_steps: int) -> dict[str, tf.Tensor]:
    """The weighted terms of the loss, by name; their sum is the loss."""
    ramp = losses.ramp(forward.step, ramp_steps)
    return {
        term.name: term.weight * (ramp if term.ramped else 1.0) * term.loss(forward)
        for term in terms
    }


def parts_of(terms: Sequence[Term]) -> list[Part]:
    """The parts of all terms, each once."""
    return list({id(term.part): term.part for term in terms if term.part}.values())


def peers_cross_entropy(forward: Forward) -> tf.Tensor:
    """`sum_i CE(y, z_i)`."""
    return tf.add_n([losses.cross_entropy(forward.labels, logits) for logits in forward.logits])


CROSS_ENTROPY = Term("cross_entropy", peers_cross_entropy)


@recipe()
def independent(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Peers trained side by side: `sum_i CE(y, z_i)`."""
    return [CROSS_ENTROPY]


@recipe()
def cutnmix(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Cross-entropy, the self-ensemble teacher and feature-level mutual learning (ours).

    Our reading of Shen et al. 2022 (arXiv 2206.12370). All distillation terms are ramped. The
    term `mutual`, the peers' own logits as in `dml`, is off unless it is given a weight.
    """
    return [
        CROSS_ENTROPY,
        Term(
            "teacher",
            lambda forward: teacher_distillation(forward, method.temperature),
            ramped=True,
            uses_averages=True,
        ),
        Term("feature", mutual_features, ramped=True, part=FeatureAdapters(peers)),
        Term(
            "mutual",
            lambda forward: mutual(forward, method.temperature),
            weight=0.0,
            ramped=True,
        ),
    ]


@recipe(temperature=4.0)
def kd(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Offline distillation from a trained teacher: `sum_i CE_i + KD(t -> i)`.

    Hinton et al. 2015. The teacher is an export; it sees the view of the peer it teaches.
    """
    if not method.teacher:
        raise InputError(
            "--method=kd needs --teacher: the folder of an export, or of a run that exported one"
        )
    return [
        CROSS_ENTROPY,
        Term(
            "frozen_teacher",
            lambda forward: _each(forward, forward.parts["frozen_teacher"], method.temperature),
            part=FrozenTeacher(method.teacher, peers),
        ),
    ]


@recipe(temperature=1.0, min_peers=2)
def dml(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Deep mutual learning: `sum_i CE_i + mean_{j != i} KD(z_j -> i)`.

    Zhang et al. 2018. All peers learn in one step, as in the published
    comparisons, not in turn. The paper has no temperature: T = 1.
    """
    return [CROSS_ENTROPY, Term("mutual", lambda forward: mutual(forward, method.temperature))]


@recipe(min_peers=2, shares=True, mean_gradient=True)
def cl_ilr(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Collaborative learning on a shared trunk: `sum_i CE_i + r KD(mean_{j != i} z_j -> i)`.

    Song and Chai 2018. The trunk gets the mean of the peers' gradients (`mean_gradient=True`
    of `share_stages`). One split, weights 1 and a ramp, as in OKDDip's comparison; the target is
    stopped, as in MCL-OKD's.
    """

    def consensus(forward: Forward) -> tf.Tensor:
        total = tf.add_n(forward.logits)
        others = [(total - logits) / (len(peers) - 1) for logits in forward.logits]
        return _each(forward, others, method.temperature)

    return [CROSS_ENTROPY, Term("consensus", consensus, ramped=True)]


@recipe(min_peers=2, shares=True, leader=0)
def one(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """On-the-fly native ensemble: `sum_i CE_i + CE(z_e) + r sum_i KD(z_e -> i)`.

    Lan et al. 2018. `z_e` weighs the peers by a gate on the map that they share.
    """
    return [CROSS_ENTROPY, *_ensemble_terms(Gate(peers), method)]


@recipe(temperature=2.0, min_peers=2, own_views=True)
def kdcl(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """KDCL-MinLogit: `sum_i CE_i + KD(t -> i)`, `t = min_i (z_i - <y, z_i>)` in each class.

    Guo et al. 2020. With soft labels `<y, z>` is the mean logit over them (our definition).
    """
    return _collaborative(method, losses.least_logits)


@recipe(temperature=2.0, min_peers=2, own_views=True)
def kdcl_naive(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """KDCL-Naive: t are each sample's logits of the peer with the least cross-entropy.

    Guo et al. 2020; with soft labels, the least cross-entropy to them (our definition).
    """
    return _collaborative(method, losses.best_logits)


@recipe(temperature=2.0, min_peers=2, own_views=True)
def kdcl_linear(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """KDCL-Linear: t is the convex mixture of the logits with the least cross-entropy in a batch.

    Guo et al. 2020; see `losses.mixed_logits`.
    """
    return _collaborative(method, losses.mixed_logits)


@recipe(temperature=2.0, min_peers=2, own_views=True, held_out=True)
def kdcl_general(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """KDCL-General: peers are weighed after each epoch by their errors on held-out images.

    Guo et al. 2020; see `HeldOutWeights`. The held-out images are those of the validation
    split, which is then no longer untouched by training.
    """

    def ensemble(forward: Forward) -> tf.Tensor:
        softened = [losses.soften(logits, method.temperature) for logits in forward.logits]
        target = tf.tensordot(forward.parts["held_out_weights"], tf.stack(softened), axes=1)
        return tf.add_n(
            [losses.distillation(target, z, method.temperature) for z in forward.logits]
        )

    return [CROSS_ENTROPY, Term("ensemble", ensemble, part=HeldOutWeights(peers))]


@recipe(min_peers=3, alike=True, leader=-1)
def okddip(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Two-level distillation to a leader, the last peer, by way of diverse auxiliary peers.

    Chen et al. 2020: `sum_i CE_i + r sum_{a < n} T^2 KL(t_a || z_a) + r KD(mean_a z_a -> n)`,
    `t_a` from the attention of the auxiliary peers on each other. As in the authors' code, the
    targets get gradients: the attention's projections learn from nothing else.
    """

    def attended(forward: Forward) -> tf.Tensor:
        targets = tf.unstack(forward.parts["attention"])
        return _each(forward, targets, method.temperature, stop_target=False)

    def leader(forward: Forward) -> tf.Tensor:
        *auxiliary, last = forward.logits
        mean = tf.add_n(auxiliary) / len(auxiliary)
        return losses.imitation(mean, last, method.temperature, stop_target=False)

    return [
        CROSS_ENTROPY,
        Term("attention", attended, ramped=True, part=Attention(peers)),
        Term("leader", leader, ramped=True),
    ]


@recipe(min_peers=2, shares=True, own_views=True)
def pcl(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Peer collaborative learning: an ensemble and the others' averages teach each peer.

    Wu and Gong 2021: `CE(z_e) + sum_i CE_i + r KD(z_e -> i) + r mean_{j != i} KD(zbar_j -> i)`,
    `z_e` a classifier on all features, `zbar` the averaged peers, which normalise by the batch
    as in the public code. The ramp is the paper's, not that of this code, which divides by 1
    instead of 80.
    """
    return [
        CROSS_ENTROPY,
        *_ensemble_terms(FeatureClassifier(peers), method),
        Term(
            "teacher",
            lambda forward: mutual(forward, method.temperature, forward.teacher_logits),
            ramped=True,
            uses_averages=True,
        ),
    ]


@recipe(min_peers=2, shares=True)
def ffl(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Feature fusion learning: a fused classifier and the peers teach each other.

    Kim et al. 2019: `sum_i CE_i + CE(z_f) + r sum_i KD(z_f -> i) + r KD(mean_i z_i -> f)`. The
    fusion is trained with the peers' optimizer and weight decay, not one of its own. The peers'
    last maps must be of one size.
    """
    fusion = Fusion(peers)

    def ensemble(forward: Forward) -> tf.Tensor:
        mean = tf.add_n(forward.logits) / len(peers)
        return losses.imitation(mean, forward.parts[fusion.name], method.temperature)

    return [
        CROSS_ENTROPY,
        *_ensemble_terms(fusion, method),
        Term("ensemble", ensemble, ramped=True, part=fusion),
    ]


@recipe()
def dlb(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Self-distillation from the last mini-batch: `sum_i CE_i + KD(z'_i -> i)`.

    Shen et al. 2022: each step also trains on the batch before it, augmented anew, and each
    peer imitates there what it said (z') one step earlier; CE is the mean over both batches. A
    batch is mixed the second time as it was the first (our definition), so that its labels and
    z' still hold. Costs two batches a step.
    """
    if method.batch_size is None:
        raise InputError("--method=dlb needs to know the batch size: pass batch_size to Method")

    def imitate_the_past(forward: Forward) -> tf.Tensor:
        past = tf.unstack(forward.parts["last_batch"])
        again = [logits[: method.batch_size] for logits in forward.logits]
        pairs = zip(past, again, strict=True)
        loss = tf.add_n([losses.imitation(z, now, method.temperature) for z, now in pairs])
        return tf.where(tf.equal(forward.step, 0), 0.0, loss)

    return [
        CROSS_ENTROPY,
        Term("last_batch", imitate_the_past, part=LastBatch(peers, method.batch_size)),
    ]


@recipe(min_peers=2)
def mcl(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Mutual contrastive learning: contrast within and between peers, and its distillation.

    Yang et al. 2022: `CE + 0.1 VCL + SoftVCL + 0.1 ICL + SoftICL`, sums over peers and pairs.
    Samples attract each other as far as their labels agree, `<y_a, y_b>`, which is the paper's
    0 or 1 for hard labels and our definition for soft ones. Batches are drawn as for any other
    method, not by class.
    """

    indices = range(len(peers))
    own = [(i, i) for i in indices]
    between = [(i, j) for i in indices for j in indices if i != j]

    def contrast(pairs: Sequence[tuple[int, int]]) -> Callable[[Forward], tf.Tensor]:
        def loss(forward: Forward) -> tf.Tensor:
            similar = forward.parts["embeddings"]
            positives = tf.matmul(forward.labels, forward.labels, transpose_b=True)
            return tf.add_n([losses.contrast(similar[pair], positives) for pair in pairs])

        return loss

    def imitate(pairs: Sequence[tuple]) -> Callable[[Forward], tf.Tensor]:
        def loss(forward: Forward) -> tf.Tensor:
            similar = forward.parts["embeddings"]
            return tf.add_n(
                [losses.imitation(similar[t], similar[s], method.temperature) for t, s in pairs]
            )

        return loss

    embeddings = Embeddings(peers)
    return [
        CROSS_ENTROPY,
        Term("contrast_own", contrast(own), 0.1, part=embeddings),
        Term("soft_own", imitate([((j, j), (i, i)) for i, j in between]), part=embeddings),
        Term("contrast_between", contrast(between), 0.1, part=embeddings),
        Term("soft_between", imitate([((j, i), (i, j)) for i, j in between]), part=embeddings),
    ]


def teacher_distillation(forward: Forward, temperature: float) -> tf.Tensor:
    """`sum_i T^2 KL(q || softmax(z_i / T))`, q the mean softened prediction of the averaged peers.

    Each averaged peer saw its peer's view, so q averages over views as well as over weights.
    """
    softened = [losses.soften(logits, temperature) for logits in forward.teacher_logits]
    target = tf.add_n(softened) / len(softened)
    return tf.add_n([losses.distillation(target, z, temperature) for z in forward.logits])


def mutual_features(forward: Forward) -> tf.Tensor:
    """`sum_k mean_{j != k} |unit(A_kj f_k) - unit(f_j)|^2`; 0 for a single peer.

    The targets are the peers' own features, without gradient: the adapters `A_kj` cannot
    bring the distance down by mapping everything to one point.
    """
    adapted = forward.parts["feature_adapters"]
    if not adapted:
        return tf.constant(0.0)
    distances = [losses.feature_distance(f, forward.features[j]) for (_, j), f in adapted.items()]
    return tf.add_n(distances) / (len(forward.features) - 1)


def mutual(
    forward: Forward, temperature: float, targets: Sequence[tf.Tensor] | None = None
) -> tf.Tensor:
    """`sum_i mean_{j != i} KD(t_j -> i)`, the targets the peers' own logits unless given.

    It is 0 for a single peer.
    """
    logits = forward.logits
    if len(logits) == 1:
        return tf.constant(0.0)
    targets = logits if targets is None else targets
    pairs = [(j, i) for i in range(len(logits)) for j in range(len(logits)) if j != i]
    distances = [losses.imitation(targets[j], logits[i], temperature) for j, i in pairs]
    return tf.add_n(distances) / (len(logits) - 1)


def _each(
    forward: Forward,
    targets: Sequence[tf.Tensor],
    temperature: float,
    *,
    stop_target: bool = True,
) -> tf.Tensor:
    """`sum_i KD(t_i -> i)` over the peers that have a target."""
    pairs = zip(targets, forward.logits, strict=False)
    return tf.add_n(
        [losses.imitation(t, z, temperature, stop_target=stop_target) for t, z in pairs]
    )


def _ensemble_terms(part: Part, method: Method) -> list[Term]:
    """An ensemble's logits, trained by cross-entropy, teach each peer."""

    def teach(forward: Forward) -> tf.Tensor:
        logits = forward.parts[part.name]
        return _each(forward, [logits] * len(forward.logits), method.temperature)

    def learn(forward: Forward) -> tf.Tensor:
        return losses.cross_entropy(forward.labels, forward.parts[part.name])

    return [
        Term(f"{part.name}_cross_entropy", learn, part=part),
        Term(part.name, teach, ramped=True, part=part),
    ]


def _collaborative(
    method: Method, ensemble: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> list[Term]:
    """Cross-entropy, and the imitation of one target made of labels and all logits."""

    def imitate(forward: Forward) -> tf.Tensor:
        target = ensemble(forward.labels, tf.stack(forward.logits))
        return _each(forward, [target] * len(forward.logits), method.temperature)

    return [CROSS_ENTROPY, Term("ensemble", imitate)]
