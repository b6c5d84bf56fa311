"""The networks of `keras.applications` by name: `keras_mobilenet_v3_small`."""

import re

import keras

from tf_cutnmix.errors import InputError, first_line, unknown
from tf_cutnmix.networks.foreign import adapt, find_stages
from tf_cutnmix.networks.own import Build

_PREFIX = "keras_"

# The names by the module whose `preprocess_input` they need.
_MODULES = {
    "convnext": (
        "ConvNeXtTiny",
        "ConvNeXtSmall",
        "ConvNeXtBase",
        "ConvNeXtLarge",
        "ConvNeXtXLarge",
    ),
    "densenet": ("DenseNet121", "DenseNet169", "DenseNet201"),
    "efficientnet": tuple(f"EfficientNetB{number}" for number in range(8)),
    "efficientnet_v2": tuple(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", *"SML")),
    "inception_resnet_v2": ("InceptionResNetV2",),
    "inception_v3": ("InceptionV3",),
    "mobilenet": ("MobileNet",),
    "mobilenet_v2": ("MobileNetV2",),
    "mobilenet_v3": ("MobileNetV3Small", "MobileNetV3Large"),
    "nasnet": ("NASNetMobile", "NASNetLarge"),
    "resnet": ("ResNet50", "ResNet101", "ResNet152"),
    "resnet_v2": ("ResNet50V2", "ResNet101V2", "ResNet152V2"),
    "vgg16": ("VGG16",),
    "vgg19": ("VGG19",),
    "xception": ("Xception",),
}


def _in_small_letters(name: str) -> str:
    """`MobileNetV3Small` as `mobilenet_v3_small`."""
    brand = name.replace("Net", "net").replace("NeXt", "next")
    return re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", brand).lower()


NAMES = {
    _PREFIX + _in_small_letters(name): (module, name)
    for module, names in _MODULES.items()
    for name in names
}


def builder(name: str, weights: str | None = None) -> Build | None:
    """What builds a network of `keras.applications`; None for names without the prefix.

    It has the preprocessing of its own, from pixels, a new classifier, and a stage for each size
    of its maps.

    Args:
      name: "keras_" and the name in small letters, its words apart.
      weights: "imagenet" or None, for fresh ones.

    Raises:
      InputError: there is no such network; later, if the images are too small for it or the
        weights cannot be downloaded.
    """
    if not name.startswith(_PREFIX):
        return None
    if name not in NAMES:
        raise unknown("--arch", name, NAMES)
    module, application = NAMES[name]

    def build(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
        function = getattr(keras.applications, application)
        try:
            model = function(include_top=False, weights=weights, input_shape=input_shape)
        except ValueError as error:
            raise InputError(f"--arch={name}: {first_line(error)}: pass --image_size") from error
        # What keras.utils.get_file raises when it has no connection.
        except Exception as error:
            raise InputError(
                f"the {weights} weights of {name} cannot be downloaded: {first_line(error)}"
            ) from error
        preprocess = getattr(keras.applications, module).preprocess_input
        stages = find_stages(model)
        return adapt(model, num_classes, stages=stages, preprocess=preprocess, name=name)

    return build
