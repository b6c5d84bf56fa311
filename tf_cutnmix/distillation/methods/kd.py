"""Offline distillation (Hinton et al. 2015)."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_cutnmix.distillation.forward import Forward, Part
from tf_cutnmix.distillation.method import Method, Term, recipe
from tf_cutnmix.distillation.peers import num_classes
from tf_cutnmix.distillation.terms import CROSS_ENTROPY, imitate_each
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import served


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
            lambda forward: imitate_each(
                forward, forward.parts["frozen_teacher"], method.temperature
            ),
            part=FrozenTeacher(method.teacher, peers, method.class_names),
        ),
    ]


class FrozenTeacher(Part):
    """Logits `[B, K]` of a trained export on each peer's view; nothing in it is trained.

    It resizes the views to its own size, which XLA cannot compile.

    Args:
      folder: of the export.
      peers: that learn from it.
      class_names: of the peers, which the export's are matched with; none: they are the same.

    Raises:
      InputError: the folder is no export, or one for other classes.
    """

    def __init__(
        self, folder: str, peers: Sequence[keras.Model], class_names: Sequence[str] = ()
    ) -> None:
        super().__init__("frozen_teacher")
        self.supports_jit = False
        self.teacher = served.load(folder, "teacher")
        self.frozen_network = self._logits
        names = self.teacher.class_names
        self.columns = served.columns(f"--teacher={folder}", names, class_names or names)
        found, wanted = len(self.columns), num_classes(peers)
        if found != wanted:
            raise InputError(
                f"--teacher={folder} tells {found} classes apart and the data have {wanted}"
            )

    def call(self, forward: Forward) -> list[tf.Tensor]:
        views = (
            tf.saturate_cast(tf.round(tf.cast(v, tf.float32)), tf.uint8) for v in forward.views
        )
        return [tf.stop_gradient(self._logits(view)) for view in views]

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        logits = self.teacher.predict(images=images)["logits"]
        return tf.gather(logits, self.columns, axis=-1)
