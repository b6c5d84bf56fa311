"""What every network ends in."""

import keras


def head(num_classes: int) -> keras.layers.Dense:
    """The classifier on the features, whose output are the logits."""
    return keras.layers.Dense(num_classes, kernel_initializer="he_normal", name="logits")


def check_classes(num_classes: int) -> None:
    """Raise `ValueError` for fewer than 2 classes."""
    if num_classes < 2:
        raise ValueError(f"num_classes must be 2 or more. Received: num_classes={num_classes}")
