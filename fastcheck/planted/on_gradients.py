"""Mistakes that show in finished gradients, whatever the network: each returns what it changes."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from fastcheck.errors import InputError
from fastcheck.planted.bug import Options
from fastcheck.planted.scene import Arrays, Scene


def scale(scene: Scene, options: Options) -> Arrays:
    """Multiply by a factor; the first weights unless told otherwise."""
    names = scene.chosen(options["tensors"], scene.weights[:1])
    return {name: options["factor"] * scene.grads[name] for name in names}


def sign(scene: Scene, options: Options) -> Arrays:
    """Negate; the last weights unless told otherwise."""
    names = scene.chosen(options["tensors"], scene.weights[-1:])
    return {name: -scene.grads[name] for name in names}


def transpose(scene: Scene, options: Options) -> Arrays:
    """Transpose square matrices; the last one unless told otherwise."""
    square = [t.name for t in scene.tree if len(t.shape) == 2 and t.shape[0] == t.shape[1] > 1]
    names = scene.chosen(options["tensors"], square[-1:])
    return {name: scene.grads[name].T.copy() for name in names if name in square}


def missing_mean(scene: Scene, options: Options) -> Arrays:
    """Leave out the division by the number of samples."""
    size = scene.batch_size or 1
    return {
        name: size * scene.grads[name]
        for name in scene.chosen(options["tensors"], scene.tree.names)
    }


def missing_l2(scene: Scene, options: Options) -> Arrays:
    """Leave out λW in the gradient of the weights."""
    params, decay = scene.params or {}, scene.decay or 0.0
    names = scene.chosen(options["tensors"], scene.weights)
    return {name: scene.grads[name] - decay * params[name] for name in names}


def stale(scene: Scene, options: Options) -> Arrays:
    """Keep the gradients of the step before."""
    return dict(scene.previous or {})


def accumulated(scene: Scene, options: Options) -> Arrays:
    """Add to the gradients of the step before, which were not zeroed."""
    return {name: scene.grads[name] + old for name, old in (scene.previous or {}).items()}


def aliased(scene: Scene, options: Options) -> Arrays:
    """Let two tensors share one array: a backward pass writes the earlier layer's last."""
    first, second = _alike(scene)
    return {second: scene.grads[first].copy()} if first else {}


def swapped(scene: Scene, options: Options) -> Arrays:
    """Exchange the gradients of two tensors of equal shape."""
    first, second = _alike(scene)
    if not first:
        return {}
    return {first: scene.grads[second].copy(), second: scene.grads[first].copy()}


def one_element(scene: Scene, options: Options) -> Arrays:
    """Multiply one element, the largest: another could be an exact zero."""
    found = {}
    for name in scene.chosen(options["tensors"], scene.weights[:1]):
        wrong = scene.grads[name].copy()
        if wrong.size:
            # Not through `flat` of a 0-d copy, nor ravel, which may be a copy in Fortran order.
            wrong[np.unravel_index(np.argmax(np.abs(wrong)), wrong.shape)] *= options["factor"]
        found[name] = wrong
    return found


def one_row(scene: Scene, options: Options) -> Arrays:
    """Multiply one row, the longest unless told otherwise."""
    found = {}
    for name in scene.chosen(options["tensors"], scene.weights[:1]):
        wrong = scene.grads[name].copy()
        if wrong.ndim and wrong.size:
            wrong[_row(wrong, options["row"])] *= options["factor"]
        found[name] = wrong
    return found


def permuted_rows(scene: Scene, options: Options) -> Arrays:
    """Move the rows down by one; of the first weights unless told otherwise."""
    names = scene.chosen(options["tensors"], scene.weights[:1])
    return {name: np.roll(scene.grads[name], 1, axis=0) for name in names if scene.grads[name].ndim}


def _row(gradient: np.ndarray, row: int | None) -> int:
    if row is None:
        return int(np.argmax(np.sum(gradient.reshape(len(gradient), -1) ** 2, axis=1)))
    if not -len(gradient) <= row < len(gradient):
        raise InputError(f"`row` is {row}, but there are {len(gradient)}: give 0 to one less.")
    return row


def _alike(scene: Scene) -> tuple[str, str]:
    """Return the first two tensors of equal shape with more than one element, weights preferred."""
    many = [name for name in scene.tree.names if scene.tree[name].size > 1]
    in_order = sorted(combinations(many, 2), key=lambda pair: pair[0] not in scene.weights)
    for first, second in in_order:
        if scene.tree[first].shape == scene.tree[second].shape:
            return first, second
    return "", ""
