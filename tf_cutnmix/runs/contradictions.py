"""Settings that have no meaning beside others."""

import dataclasses

from tf_cutnmix.errors import InputError
from tf_cutnmix.runs.config import Config

_RATIOS = ("alpha", "ratio_per", "mix_probability", "mix_until")
_TEACHING = ("ensemble_members", "ensemble_from", "ensemble_view", "standardise_logits")
_BETWEEN_PEERS = ("feature", "mutual")


def check(config: Config) -> None:
    """Raise `InputError` for a setting, other than its default, that nothing would come of."""
    for name, reason in meaningless(config).items():
        value = getattr(config, name)
        raise InputError(f"--{name}={value} has no meaning {reason}: leave it out")


def meaningless(config: Config) -> dict[str, str]:
    """The settings that nothing would come of, with the reason."""
    found: dict[str, str] = {}
    if config.method != "kd":
        found |= dict.fromkeys(
            ("teacher", "classes_by_position"), f"with --method={config.method}, only with kd"
        )
    if not config.resume:
        found["new_images"] = "without --resume"
    if config.mix == "none":
        found |= dict.fromkeys(_RATIOS, "with --mix=none, which mixes nothing")
    if config.mix != "cutnmix":
        found["regions"] = f"with --mix={config.mix}, only with cutnmix"
    if config.distribute != "none":
        found["jit"] = f"with --distribute={config.distribute}, which XLA cannot compile"
    if config.method == "independent":
        found["temperature"] = "with --method=independent, which imitates nothing"
    if config.freeze == "backbone":
        found["learning_rate_backbone"] = "with --freeze=backbone, which keeps it as it is"
    if config.validation_split != "auto" and config.validation_fraction:
        found["validation_fraction"] = f"beside --validation_split={config.validation_split}"
    weights = config.term_weights
    if weights.get("teacher") == 0:
        found |= dict.fromkeys(_TEACHING, "with --weights=teacher=0, which switches the term off")
    alone = [name for name in _BETWEEN_PEERS if weights.get(name)]
    if alone and config.method == "cutnmix" and len(config.architectures) == 1:
        found["weights"] = f"for {alone[0]} with one peer, as it compares peers"
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    return {name: why for name, why in found.items() if getattr(config, name) != defaults[name]}
