"""Any other Keras model as a peer: copied layer by layer, with a classifier of its own."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from tf_cutnmix.errors import last_line
from tf_cutnmix.networks.blocks import BatchNormalization, Normalization

# What makes features of an output, by its rank.
_POOLING = {
    2: keras.layers.Identity,
    3: keras.layers.GlobalAveragePooling1D,
    4: keras.layers.GlobalAveragePooling2D,
}


def adapt(
    model: keras.Model,
    num_classes: int,
    *,
    stages: Mapping[str, str] | None = None,
    preprocess: Callable[[keras.KerasTensor], keras.KerasTensor] | None = None,
    name: str | None = None,
) -> keras.Model:
    """Make a peer of a model from elsewhere, with a copy of its weights and a new classifier.

    The model itself stays as it is: adapted twice, it makes two peers that share nothing.

    Args:
      model: a functional or sequential model with one image input `[B, H, W, C]` and one
        output: a map `[B, h, w, D]` or tokens `[B, T, D]`, which are pooled, or features `[B, D]`.
      num_classes: 2 or more.
      stages: for each of "stem" (which may be left out), "stage1", "stage2", ... the model's
        layer at whose output `[B, h, w, channels]` it ends. All that follows a stage must
        depend on the images through that output alone. `find_stages` finds them.
      preprocess: a layer, or a function that works on symbolic tensors, from pixels of 0 to
        255 to what the model takes, in the same shape; None if it takes pixels.
      name: of the peer; by default the model's.

    Returns:
      A functional model, as of `build_network`, with the layers of the model among its own.

    Raises:
      ValueError: the model or its stages are not as above; there are fewer than 2 classes.
    """
    check_classes(num_classes)
    _check_model(model)
    maps = _stage_maps(model, stages or {})
    trunk = keras.Model(model.inputs[0], {**maps, "output": model.outputs[0]})
    images = keras.Input(model.inputs[0].shape[1:], name="images")
    # Called so, a model runs its layers one by one; calling the model itself would nest it.
    endpoints = dict(trunk.call(preprocess(images) if preprocess else images))
    output = endpoints.pop("output")
    endpoints["features"] = _POOLING[len(output.shape)]()(output)
    endpoints["logits"] = head(num_classes)(endpoints["features"])
    shared = keras.Model(images, endpoints, name=name or model.name)
    peer = keras.models.clone_model(shared, clone_function=copy_layer)
    peer.set_weights(shared.get_weights())
    return peer


def find_stages(model: keras.Model) -> dict[str, str]:
    """The stages of a model, each of half the resolution: what `adapt` takes as `stages`.

    A stage ends at the last layer, before the maps shrink to half, through whose output alone all
    later layers depend on the images. Layers before the first weights are in no stage. A model
    without such layers has none, nor has one of images of any size or that uses a layer twice.

    Raises:
      ValueError: the model is not as `adapt` takes it.
    """
    _check_model(model)
    ends: list[str] = []
    start = height = 0  # of the stage that was found last
    for layer in _bottlenecks(model):
        shape: tuple[Any, ...] = getattr(layer.output, "shape", ())
        if len(shape) != 4 or not shape[1]:
            continue
        if not ends or (shape[1] < start and 2 * shape[1] <= start + 1):
            ends.append(layer.name)
            start = height = shape[1]
        elif shape[1] <= height:  # not the padding before the next stage
            ends[-1] = layer.name
            height = shape[1]
    return {f"stage{number}": layer for number, layer in enumerate(ends, start=1)}


def head(num_classes: int) -> keras.layers.Dense:
    """The classifier on the features, whose output are the logits."""
    return keras.layers.Dense(num_classes, kernel_initializer="he_normal", name="logits")


def check_classes(num_classes: int) -> None:
    """Raise `ValueError` for fewer than 2 classes."""
    if num_classes < 2:
        raise ValueError(f"num_classes must be 2 or more. Received: num_classes={num_classes}")


def every_layer(network: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A network or a layer, and all that are in it at any depth, each once."""
    return network._flatten_layers()


def copy_layer(layer: keras.Operation, **changes: Any) -> keras.Operation:
    """A layer or operation of the same config, but for changes, with fresh weights.

    A `Lambda` has no weights and stays the layer that it is: Keras does not read its function back.

    Raises:
      ValueError: the layer cannot be made from its config.
    """
    if isinstance(layer, keras.layers.Lambda):
        return layer
    try:
        return _copied_as(layer).from_config({**layer.get_config(), **changes})
    # A layer's own code runs here.
    except Exception as error:
        # Keras says last what it was, after all of the config.
        reason = last_line(str(error).strip() or type(error).__name__)
        reason = reason.removeprefix("Exception encountered: ").rstrip(".")
        raise ValueError(
            f"the layer {layer.name!r} ({type(layer).__name__}) cannot be copied: its "
            f"from_config(get_config()) must recreate it. {reason}. A model that can is kept whole "
            "where another one calls it: keras.Model(images, model(images))"
        ) from error


def _copied_as(layer: keras.Operation) -> type[keras.Operation]:
    """The class of a layer's copy: one of ours that computes the same, or its own."""
    kind = type(layer)
    if kind is keras.layers.Normalization:
        return Normalization  # whose copy gets its statistics as weights
    if kind is not keras.layers.BatchNormalization:
        return kind
    # Once it is built, it knows the rank of what it takes.
    of_maps = layer.built and layer.input_spec.ndim == 4 and layer.axis in (-1, 3)
    return BatchNormalization if of_maps and layer.scale and layer.center else kind


def _bottlenecks(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers with weights before them that no path from the images leads around."""
    operations = keras.Model(model.inputs, model.outputs).operations
    maker = {
        id(tensor): position
        for position, operation in enumerate(operations)
        for tensor in keras.tree.flatten(operation.output)
    }
    inputs = [[id(t) for t in keras.tree.flatten(operation.input)] for operation in operations]
    used = {tensor for tensors in inputs for tensor in tensors} | {id(model.outputs[0])}
    if not used <= maker.keys():  # A layer that is used twice knows its first use alone.
        return []
    last_use = np.zeros(len(operations), int)
    for position, tensors in enumerate(inputs):
        last_use[[maker[tensor] for tensor in tensors]] = position
    # How far what was made before each operation reaches.
    reach = np.concatenate([[0], np.maximum.accumulate(last_use)[:-1]])
    weighted = np.cumsum([bool(getattr(o, "trainable_weights", ())) for o in operations])
    return [
        operation
        for position, operation in enumerate(operations)
        if reach[position] <= position
        and weighted[position]
        and isinstance(operation, keras.layers.Layer)
    ]


def _check_model(model: keras.Model) -> None:
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    ranks = [[len(t.shape) for t in tensors or []] for tensors in (inputs, outputs)]
    if ranks[0] != [4] or ranks[1] not in ([2], [3], [4]):
        raise ValueError(
            "adapt needs a functional model from one input [B, H, W, C] to one output, a map "
            "[B, h, w, D], tokens [B, T, D] or features [B, D]; a subclassed model becomes one as "
            f"keras.Model(inputs, model(inputs)). Received: {model!r} with inputs {inputs!r} and "
            f"outputs {outputs!r}"
        )


def _stage_maps(model: keras.Model, layers: Mapping[str, str]) -> dict[str, keras.KerasTensor]:
    """The outputs of the layers that end stages, in the stages' order."""
    numbered = [f"stage{number}" for number in range(1, len(layers) + 1)]
    ordered = [stage for stage in ("stem", *numbered) if stage in layers]
    if ordered not in (numbered, ["stem", *numbered[:-1]]):
        raise ValueError(
            'stages must be "stage1", "stage2", ... without a gap, and "stem" before them if '
            f"there is one. Received: {', '.join(layers)}"
        )
    maps = {stage: model.get_layer(layers[stage]).output for stage in ordered}
    ends = [*maps.values(), model.outputs[0]]
    if len(ends) > 1 and ends[-2] is ends[-1]:
        ends.pop()  # the last stage ends where the model does
    for stage, start, end in zip(maps, ends, ends[1:], strict=False):
        try:
            keras.Model(start, end)
        except ValueError as error:
            raise ValueError(
                f"{stage} cannot end at the layer {layers[stage]!r}: what follows does not depend "
                "on the images through its output alone. End it where no branch leads around it, "
                "and list the stages in the order in which images pass them"
            ) from error
    return maps
