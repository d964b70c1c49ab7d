"""The backward pass of dense layers with all of its parts at hand, for bugs that sit inside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcheck.errors import InputError
from fastcheck.params import ParamTree, Tensor

Array = NDArray[np.float64]


def _sigmoid(Z: Array) -> Array:
    return 1 / (1 + np.exp(-Z))


@dataclass(frozen=True)
class Activation:
    """A nonlinearity: its value, its derivative by its own value, and what people write instead."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    wrong_slope: Callable[[Array], Array]


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(
        lambda Z: np.maximum(0, Z), lambda a: (a > 0).astype(np.float64), np.ones_like
    ),
    "tanh": Activation(np.tanh, lambda a: 1 - a**2, lambda a: 1 - a),
    "sigmoid": Activation(_sigmoid, lambda a: a * (1 - a), lambda a: a.copy()),
    "identity": Activation(lambda Z: Z.copy(), np.ones_like, np.ones_like),
}


@dataclass(frozen=True, eq=False)
class Layer:
    """One dense layer after a forward pass, with samples in columns.

    Attributes
    ----------
    weights, bias : str
        The names of its tensors; `bias` is None where it has none.
    W : (outputs, inputs) float64
    A : (inputs, M) float64
        What W is multiplied with.
    activation : str
        A key of `ACTIVATIONS`.
    a : (outputs, M) float64
        The activation's values.
    slope : (outputs, M) float64
        The activation's derivatives.
    mask : (outputs, M) float64 or None
        What the outputs are multiplied with afterwards, such as dropout.
    """

    weights: str
    bias: str | None
    W: Array
    A: Array
    activation: str
    a: Array
    slope: Array
    mask: Array | None = None


@dataclass(frozen=True, eq=False)
class BackwardPass:
    """What the backward pass of a network of dense layers reads.

    Attributes
    ----------
    tree : ParamTree
        The parameters, for names and nesting.
    layers : tuple of Layer
        From the inputs to the outputs.
    dZ : (outputs, M) float64
        The derivative of the loss by what the last layer computes, before any nonlinearity.
    decay : float
        λ of an L2 term λ/2·‖W‖² in the loss.
    rows : bool
        Whether the network holds samples in rows, and so its weights as (inputs, outputs).

    Examples
    --------
    >>> import numpy as np
    >>> from fastcheck.planted import BUGS, BackwardPass
    >>> from fastcheck.problems import mlp
    >>> params, (X, Y) = mlp.init((4, 3, 2)), mlp.make_batch((4, 3, 2), 8)
    >>> dZ = (mlp.forward(params, X)["A2"] - Y) / 8
    >>> backward = BackwardPass.dense(params, X, dZ, ["relu"])
    >>> np.allclose(backward.gradients()["W1"], mlp.gradients(params, X, Y)["W1"])
    True
    >>> BUGS["missing-mask"].spoils(backward=backward)
    ('W1', 'b1')
    """

    tree: ParamTree
    layers: tuple[Layer, ...]
    dZ: Array
    decay: float = 0.0
    rows: bool = False

    @classmethod
    def dense(
        cls,
        params: Any,
        X: ArrayLike,
        dZ: ArrayLike,
        activations: Sequence[str],
        *,
        rows: bool = False,
        masks: Sequence[ArrayLike | None] = (),
        decay: float = 0.0,
    ) -> BackwardPass:
        """Run the forward pass of dense layers and keep what a backward pass reads.

        Parameters
        ----------
        params : nested dict, list or tuple of float arrays
            From the inputs on: the weights of each layer, and its bias behind them if it has one.
        X : float array (inputs, M), or (M, inputs) with `rows`
            The inputs of the network.
        dZ : float array (outputs, M), or (M, outputs) with `rows`
            The derivative of the loss by what the last layer computes from its inputs.
        activations : sequence of {"relu", "tanh", "sigmoid", "identity"}
            One for each layer but the last.
        rows : bool
            Samples are in rows, and weights have shape (inputs, outputs).
        masks : sequence of arrays or None, optional
            What each hidden layer's outputs are multiplied with, such as dropout masks.
        decay : float
            λ of an L2 term λ/2·‖W‖² of all weights in the loss.

        Raises
        ------
        InputError
            The number of activations or masks does not fit the layers, or one is unknown.
        """
        tree = ParamTree.from_user(params)
        pairs = _pairs(tree, rows)
        _refuse_misfits(activations, masks, len(pairs))
        padded = [*masks, *[None] * (len(pairs) - len(masks))]
        below = _columns(X, rows)
        layers = []
        for (W, b), activation, mask in zip(pairs, [*activations, "identity"], padded, strict=True):
            layer = _layer(W, b, below, activation, mask, rows)
            below = layer.a if layer.mask is None else layer.a * layer.mask
            layers.append(layer)
        return cls(tree, tuple(layers), _columns(dZ, rows), decay, rows)

    def gradients(self) -> dict[str, Array]:
        """Return the gradient of every tensor by name, in the tensor's shape."""
        found: dict[str, Array] = {}
        dZ = self.dZ
        for layer, below in zip(
            reversed(self.layers), [*reversed(self.layers[:-1]), None], strict=True
        ):
            dW = dZ @ layer.A.T + self.decay * layer.W
            found[layer.weights] = dW.T.copy() if self.rows else dW
            if layer.bias is not None:
                found[layer.bias] = dZ.sum(axis=1).reshape(self.tree[layer.bias].shape)
            if below is not None:
                dA = layer.W.T @ dZ
                dZ = (dA if below.mask is None else dA * below.mask) * below.slope
        return {name: found[name] for name in self.tree.names}

    def with_layer(self, place: int, **changes: Any) -> BackwardPass:
        """Return the same pass with parts of one layer, counted from 0, exchanged."""
        layers = list(self.layers)
        layers[place] = replace(layers[place], **changes)
        return replace(self, layers=tuple(layers))


def _columns(array: ArrayLike, rows: bool) -> Array:
    values = np.array(array, dtype=np.float64)
    return values.T.copy() if rows else values


def _pairs(tree: ParamTree, rows: bool) -> list[tuple[Tensor, Tensor | None]]:
    """Return the weights of each layer with its bias."""
    pairs: list[tuple[Tensor, Tensor | None]] = []
    for tensor in tree:
        if pairs and pairs[-1][1] is None and _is_bias(tensor, pairs[-1][0], rows):
            pairs[-1] = (pairs[-1][0], tensor)
        elif len(tensor.shape) == 2:
            pairs.append((tensor, None))
        else:
            raise InputError(
                f"`params` holds {tensor.name} of shape {tensor.shape}, which is neither the "
                "weights of a dense layer nor the bias of the one before it: give weights with two "
                "axes, each followed by its bias if it has one."
            )
    return pairs


def _is_bias(tensor: Tensor, weights: Tensor, rows: bool) -> bool:
    outputs = weights.shape[1 if rows else 0]
    return tensor.shape in ((outputs,), (1, outputs) if rows else (outputs, 1))


def _refuse_misfits(activations: Sequence[str], masks: Sequence[Any], layers: int) -> None:
    if unknown := [name for name in activations if name not in ACTIVATIONS]:
        raise InputError(
            f"`activations` holds {unknown[0]!r}; choose among {', '.join(ACTIVATIONS)}."
        )
    if len(activations) != layers - 1 or len(masks) > layers - 1:
        raise InputError(
            f"`activations` holds {len(activations)} names and `masks` {len(masks)} arrays, but "
            f"`params` has {layers} layers: give {layers - 1} activations, one for each layer but "
            "the last, and no more masks than that."
        )


def _layer(
    weights: Tensor,
    bias: Tensor | None,
    A: Array,
    activation: str,
    mask: ArrayLike | None,
    rows: bool,
) -> Layer:
    W = weights.value.T.copy() if rows else weights.value
    Z = W @ A if bias is None else W @ A + bias.value.reshape(-1, 1)
    rule = ACTIVATIONS[activation]
    a = rule.value(Z)
    kept = None if mask is None else np.broadcast_to(_columns(mask, rows), a.shape)
    return Layer(
        weights.name, None if bias is None else bias.name, W, A, activation, a, rule.slope(a), kept
    )
