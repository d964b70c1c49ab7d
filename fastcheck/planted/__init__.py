"""Bugs to plant in a right gradient, for tests of whatever checks gradients.

`BUGS` lists the mistakes that people make in backward passes. Most of them spoil finished
gradients, of any network; those that sit inside the backward pass need its intermediate arrays, as
a `BackwardPass`. One, ``shallow-copy``, is a mistake of the checker itself.

>>> import numpy as np, fastcheck
>>> params = {"W": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([0.5, -0.5])}
>>> def loss(p):
...     return np.sum(p["W"] ** 3) + np.sum(p["W"] @ p["b"])
>>> grads = {
...     "dW": 3 * params["W"] ** 2 + params["b"],
...     "db": params["W"].sum(axis=0),
... }
>>> assert fastcheck.check(loss, params, grads)
>>> for bug in fastcheck.planted.BUGS:
...     if bug.applies(grads, params=params):
...         assert not fastcheck.check(loss, params, bug(grads, params=params)), bug.name
>>> scale = fastcheck.planted.BUGS["scale"]
>>> scale.but(factor=1.0001)(grads, params=params)["W"] / grads["dW"]
array([[1.0001, 1.0001],
       [1.0001, 1.0001]])
"""

from fastcheck.planted.backward import BackwardPass, Layer
from fastcheck.planted.bug import Bug, Bugs
from fastcheck.planted.catalogue import BUGS
from fastcheck.planted.checker import CheckerBug

__all__ = ["BUGS", "BackwardPass", "Bug", "Bugs", "CheckerBug", "Layer"]
