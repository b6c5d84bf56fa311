"""Offline distillation (Hinton et al. 2015)."""

import math
from collections.abc import Sequence

import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Forward, Method, Part, Peers, Term, recipe
from tf_cutnmix.distillation.peers import num_classes
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import served
from tf_cutnmix.settings import split_names


@recipe(temperature=4.0)
def kd(method: Method, peers: Peers) -> list[Term]:
    """Offline distillation from a trained teacher: `sum_i CE_i + KD(t -> i)`.

    Hinton et al. 2015. The teacher is an export, or the ensemble of several; it sees the view of
    the peer it teaches.
    """
    folders = split_names(method.teacher)
    if not folders:
        raise InputError(
            "--method=kd needs --teacher: the folder of an export, or of a run that exported one, "
            "or a comma list of them"
        )

    def teach(forward: Forward) -> tf.Tensor:
        targets = forward.parts["frozen_teacher"]
        return losses.imitate_each(targets, forward.logits, method.temperature)

    return [Term("frozen_teacher", teach, part=FrozenTeacher(folders, peers, method.class_names))]


class FrozenTeacher(Part):
    """Logits `[B, K]` of trained exports on each peer's view; nothing in them is trained.

    Of several they are the logarithm of their mean probability. Their classes are matched with
    `class_names`; without any they are the same. They resize the views to their own size, which
    XLA cannot compile.

    Raises:
      InputError: a folder is no export, or one for other classes.
    """

    def __init__(
        self, folders: Sequence[str], peers: Peers, class_names: Sequence[str] = ()
    ) -> None:
        super().__init__("frozen_teacher")
        self.supports_jit = False
        self.teachers = [served.load(folder, "teacher") for folder in folders]
        self.frozen_network = self._logits
        self.columns = []
        for folder, teacher in zip(folders, self.teachers, strict=True):
            names = teacher.class_names
            columns = served.columns(f"--teacher={folder}", names, class_names or names)
            if len(columns) != num_classes(peers):
                raise InputError(
                    f"--teacher={folder} tells {len(columns)} classes apart and the data have "
                    f"{num_classes(peers)}"
                )
            self.columns.append(columns)

    def call(self, forward: Forward) -> list[tf.Tensor]:
        views = [tf.round(tf.cast(view, tf.float32)) for view in forward.views]
        return [tf.stop_gradient(self._logits(tf.saturate_cast(v, tf.uint8))) for v in views]

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        logits = [
            tf.gather(teacher.predict(images=images)["logits"], columns, axis=-1)
            for teacher, columns in zip(self.teachers, self.columns, strict=True)
        ]
        if len(logits) == 1:
            return logits[0]
        each = tf.stack([tf.nn.log_softmax(z) for z in logits])
        return tf.reduce_logsumexp(each, axis=0) - math.log(len(logits))
