"""From the settings of a run to its model."""

from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix import places
from tf_cutnmix.distillation import Method, OnlineDistiller, synchronise, teacher
from tf_cutnmix.errors import InputError
from tf_cutnmix.mixing import augment, layers
from tf_cutnmix.mixing.layers import Mixing
from tf_cutnmix.networks import pretrained
from tf_cutnmix.networks.registry import build_network, find
from tf_cutnmix.networks.sharing import share_stages, stages
from tf_cutnmix.runs import optimizer
from tf_cutnmix.runs.config import Config, check_meaning
from tf_cutnmix.runs.loading import validation_split
from tf_cutnmix.runs.plan import Plan, mirrors

# The part of a run over which the term of unlabelled images grows.
_UNLABELLED_RAMP = 0.1


def check_names(config: Config) -> None:
    """Raise `InputError` for a name that nothing knows, before data are read or downloaded."""
    for name in config.architectures:
        find(name, _downloaded(config))
    places.check_weights(config.weights_from)
    strangers = [name for name in config.architectures if ":" not in name]
    if config.weights_from == "own" and strangers:
        raise InputError(
            f"--weights_from=own are those of functions of yours, and --arch={strangers[0]} is "
            "none: name it as module:function"
        )
    Method(
        config.method,
        options=config.method_options,
        fit=config.fit,
        unlabelled=bool(config.unlabelled),
    )
    _mixing(config, num_classes=2, steps=1)
    _augmentation(config)


def check_together(config: Config) -> None:
    """Raise `InputError` for settings that cannot be had together, as early."""
    check_meaning(config)
    method = Method(config.method)
    method.check_count(len(config.architectures))
    held_out = config.validation_fraction or validation_split(config)
    if method.recipe.held_out and not held_out:
        raise InputError(
            f"--method={config.method} learns from held-out images: pass --validation_fraction "
            "above 0"
        )
    if config.patience and not held_out:
        raise InputError(
            f"--patience={config.patience} is with held-out images: pass --validation_fraction "
            "above 0"
        )
    if config.calibrate == "on" and not held_out:
        raise InputError(
            "--calibrate=on is done on held-out images: pass --validation_fraction above 0"
        )


def build_model(plan: Plan, strategy: tf.distribute.Strategy | None = None) -> OnlineDistiller:
    """The compiled model of a run, with fresh weights, over the devices of a strategy.

    Raises:
      InputError: the networks cannot be built, or do not go with the method or the devices.
    """
    config, train = plan.config, plan.splits.train
    shape, num_classes = train.pixels.shape[1:], len(train.class_names)
    devices = strategy.num_replicas_in_sync if strategy else 1
    if plan.batch_size < devices:
        raise InputError(
            f"--batch_size={plan.batch_size} is of all {devices} devices together: raise it to "
            f"{devices} or more"
        )
    mean, deviation = plan.statistics
    about: dict[str, Any] = {"mean": mean, "deviation": deviation, "weights": _downloaded(config)}
    try:
        peers = [build_network(name, shape, num_classes, **about) for name in config.architectures]
    except tf.errors.ResourceExhaustedError as error:
        raise InputError(
            f"--arch={config.arch} takes more memory than there is: name a smaller network"
        ) from error
    if config.weights_from not in places.NO_FILE:
        pretrained.load(peers, config.weights_from)
    if strategy and config.batch_norm == "sync":
        synchronise(peers)
    if config.freeze != "none":
        pretrained.freeze(peers, config.freeze)
    ramp = config.ramp_part
    if ramp is None:
        ramp = Method(config.method).recipe.ramp
    method = Method(
        config.method,
        weights=config.term_weights,
        temperature=config.temperature,
        ramp_steps=round(ramp * plan.steps),
        fit=config.fit,
        options=config.method_options,
        batch_size=plan.rows_per_step,
        teacher=config.teacher,
        class_names=() if config.classes_by_position else train.class_names,
        class_weights=plan.class_weights if config.balance == "weights" else (),
        unlabelled=bool(config.unlabelled),
        unlabelled_ramp_steps=round(_UNLABELLED_RAMP * plan.steps),
    )
    model = OnlineDistiller(
        _shared(peers, method, config),
        _mixing(config, num_classes, plan.steps),
        method,
        augment=_augmentation(config),
        own_views={"auto": None, "own": True, "shared": False}[config.views],
        momentum=teacher.momentum_for(plan.steps, config.teacher_memory),
        weight_decay=config.weight_decay if config.optimizer == "sgd" else 0.0,
        strategy=strategy,
    )
    if config.jit == "on" and not model.augment.supports_jit:
        raise InputError(f"XLA cannot compile --augment={config.augment}: pass --jit=auto")
    if config.jit == "on" and not all(part.supports_jit for part in model.parts):
        raise InputError(f"XLA cannot compile --method={config.method}: pass --jit=auto")
    model.compile(
        optimizer.build(
            config,
            plan.steps_per_epoch,
            model.trainable_variables,
            [v for p in model.peers for v in pretrained.backbone(p)],
        ),
        jit_compile={"auto": "auto", "on": True, "off": False}[config.jit],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _downloaded(config: Config) -> str | None:
    return "imagenet" if config.weights_from == "imagenet" else None


def _shared(peers: list[keras.Model], method: Method, config: Config) -> list[keras.Model]:
    """The peers, sharing what the settings say; by default all but the last stage, if any."""
    stage = config.share
    if stage == "auto" and method.recipe.shares:
        known = stages(peers[0])
        if len(known) < 2:
            raise InputError(
                f"--method={method.name} needs peers that share all but their last stage, and "
                f"{peers[0].name} names {len(known)}: name a network of two stages or more"
            )
        stage = known[-2]
    if stage in ("auto", "none"):
        return peers
    if len(peers) == 1:
        if stage not in stages(peers[0]):
            raise InputError(
                f"--share={stage}: {peers[0].name} has the stages {', '.join(stages(peers[0]))}"
            )
        return peers
    return share_stages(peers, stage, mean_gradient=method.recipe.mean_gradient)


def _augmentation(config: Config) -> augment.CropAndFlip | augment.ResizedCrop:
    return augment.build(
        config.augment or "none", crop=config.crop or 0.0, flip=mirrors(config), seed=config.seed
    )


def _mixing(config: Config, num_classes: int, steps: int) -> Mixing | None:
    """The mixing of a run of so many steps."""
    return layers.build(
        config.mix,
        num_peers=len(config.architectures),
        regions=config.regions,
        alpha=config.alpha,
        ratio_per=config.ratio_per,
        num_classes=num_classes,
        seed=config.seed,
        probability=config.mix_probability,
        until_step=None if config.mix_until == 1 else round(config.mix_until * steps),
    )
