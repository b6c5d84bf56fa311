"""Names of methods, fits and formats, for `--help`, which does not wait for TensorFlow."""

from tf_cutnmix.errors import unknown
from tf_cutnmix.settings import split_names

# The keys of `distillation.methods.METHODS`.
METHODS = (
    *("afd", "cl_ilr", "cutnmix", "dlb", "dml", "ffl", "independent", "kd"),
    *("kdcl", "kdcl_naive", "kdcl_linear", "kdcl_general"),
    *("mcl", "okddip", "one", "pcl"),
)
# The keys of `distillation.ramp.FITS`.
FITS = ("fit", "fit_steep", "fit_nats", "fit_first")
# What `--export_format` takes: the keys of `serving.formats.FORMATS` after what is always there.
FORMATS = ("savedmodel", "litert", "litert_int8", "onnx", "openvino")


def chosen_formats(export_format: str) -> tuple[str, ...]:
    """The formats of a comma list, beside the SavedModel that each export holds.

    Raises:
      InputError: there is no such format.
    """
    chosen = dict.fromkeys(split_names(export_format))
    for name in chosen:
        if name not in FORMATS:
            raise unknown("--export_format", name, FORMATS)
    return tuple(name for name in chosen if name != "savedmodel")
