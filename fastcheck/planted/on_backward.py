"""Mistakes inside a backward pass: each exchanges a part of it and lets it run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from fastcheck.errors import InputError
from fastcheck.planted.backward import ACTIVATIONS, BackwardPass
from fastcheck.planted.bug import Options
from fastcheck.planted.scene import Arrays, Scene


def missing_bias_sum(scene: Scene, options: Options) -> Arrays:
    """Take one sample's derivative for the last bias instead of the sum over all."""
    backward = _of(scene)
    last = backward.layers[-1]
    if last.bias is None:
        return {}
    return {last.bias: backward.dZ[:, 0].reshape(backward.tree[last.bias].shape).copy()}


def missing_mask(scene: Scene, options: Options) -> Arrays:
    """Leave out a dropout mask, or the ReLU's where there is no other."""
    backward = _of(scene)
    hidden = backward.layers[:-1]
    masked = [i for i, layer in enumerate(hidden) if layer.mask is not None]
    gated = [i for i, layer in enumerate(hidden) if layer.activation == "relu"]
    place = _place(options["layer"], masked or gated, len(hidden))
    if place is None:
        return {}
    layer = hidden[place]
    changes = {"mask": None} if layer.mask is not None else {"slope": np.ones_like(layer.slope)}
    return backward.with_layer(place, **changes).gradients()


def activation_derivative(scene: Scene, options: Options) -> Arrays:
    """Take a derivative that looks right: 1 for a ReLU, 1 − a for tanh, a for a sigmoid."""
    backward = _of(scene)
    hidden = backward.layers[:-1]
    curved = [i for i, layer in enumerate(hidden) if layer.activation != "identity"]
    place = _place(options["layer"], curved, len(hidden))
    if place is None:
        return {}
    layer = hidden[place]
    wrong = ACTIVATIONS[layer.activation].wrong_slope(layer.a)
    return backward.with_layer(place, slope=wrong).gradients()


def sample_dropped(scene: Scene, options: Options) -> Arrays:
    """Leave one sample out of all sums; the mean still divides by all."""
    backward = _of(scene)
    samples, sample = backward.dZ.shape[1], options["sample"]
    if not -samples <= sample < samples:
        raise InputError(f"`sample` is {sample}, but there are {samples}: give 0 to one less.")
    dZ = backward.dZ.copy()
    dZ[:, sample] = 0
    return replace(backward, dZ=dZ).gradients()


def overwritten_buffer(scene: Scene, options: Options) -> Arrays:
    """Compute a hidden layer's derivative in place, over the activations that dW reads next."""
    backward = _of(scene)
    place = _place(options["layer"], range(len(backward.layers) - 1), len(backward.layers) - 1)
    if place is None:
        return {}
    return backward.with_layer(place + 1, A=backward.layers[place].slope).gradients()


def _of(scene: Scene) -> BackwardPass:
    assert scene.backward is not None  # the bug's `needs` says so
    return scene.backward


def _place(layer: int | None, candidates: Iterable[int], hidden: int) -> int | None:
    """Return the place, from 0, of the layer asked for, from 1; the first candidate by default."""
    if layer is None:
        return next(iter(candidates), None)
    if not 1 <= layer <= hidden:
        raise InputError(
            f"`layer` is {layer}, but the hidden layers are 1 to {hidden}; choose one of these."
            if hidden
            else f"`layer` is {layer}, but there is no hidden layer; leave it out."
        )
    return layer - 1
