"""Views see each other's writes, as in NumPy; copies do not."""

from typing import Any

import numpy as np
import pytest

from fastcheck.params import ParamTree
from fastcheck.trace.primitives import WRITE
from fastcheck.trace.tracer import trace

from .conftest import traced

# Each program works on a, a fresh (3, 4) array, and w, (4,); at its end both a and b count.
PROGRAMS = """
b = a[1]; b += w
b = a[1:]; b[0] = w
b = a.T; b[0, :] = 2.0
b = a.reshape(-1); b[:4] = w
b = a.ravel(); b *= 2
b = a.flatten(); b *= 2
b = a.T.ravel(); b *= 2
b = a.copy(); b[0] = w
b = a.T.copy(); c = b.ravel(); c += 1
b = a.copy('F'); c = b.T.reshape(-1); c[:4] = w
b = np.copy(a.T); c = b.ravel(order='K'); c[0] = 9
b = a[[0, 1]]; b += 1
b = a[a > 0]; b += 1
b = a[np.argmax(w) % 3]; b += 1
b = np.diagonal(a); a[0, 0] = 5
b = a[::2, ::-1]; b[1] = w; b = b[0]
b = a[None, :, 0]; b[...] = 7
b = np.swapaxes(a, 0, 1)[1]; b -= a[:, 0]
b = a[0]; a[0] = w; a = a * 1
b = a; b += 1
b = a; b = b + 1
b = a.astype(float); b += 1
b = a.astype(float, copy=False); b += 1
b = np.asarray(a); b += 1
b = np.array(a); b += 1
b = np.array(a, copy=None); b[0] = 0
b = np.ascontiguousarray(a.T); b += 1
b = np.ascontiguousarray(a); b += 1
b = np.squeeze(a[None]); b += 1
b = np.atleast_2d(w * 1)[0]; b += a[0]
b = a[0:2]; c = b[1]; c[2] = 8; c = a[1, 2]; b = b * c
b, c = a[0], a[1]; b[:], c[:] = c.copy(), b.copy()
b, c = np.split(a, 2, axis=1); b += c
b = np.expand_dims(a, 0); b[0, 0] = w
b = np.moveaxis(a, 0, 1); b[0] = 0
b = np.flip(a); b[0] = w
b = np.broadcast_to(w, (3, 4)).copy(); b[1] = 0; a += b
b = np.add(a[0], w, out=a[1])
b = np.add(a.T, a.T, out=np.zeros((4, 3))); c = b.ravel(); c += 1
b = np.exp(a, out=a)
b = np.dot(a, w, out=np.zeros(3))
b = np.sum(a, axis=0, out=w * 1)
b = a[1]; b[b < 0] = 0
b = a; b[a < 0] *= -1
b = a; b[:, 1][b[:, 0] > 0] = 3
b = a; b[a > 0] = a[a > 0] ** 2
b = a; b[np.arange(3), [0, 1, 2]] -= 1
b = a; b[[0, 0, 1]] += 1
b = a; np.add.at(b, [0, 0, 1], 1.0)
b = a[:, 1]; np.add.at(b, [0, 0, 1], w[:3])
b = w * 1.0; c = np.atleast_2d(b); np.add.at(c, [0, 0, -1], w)
b = a; np.add.at(b, [0, 0, 1], b[1])
b = a; np.add.at(b[1:], [0, 0], b[:2])
b = a; np.maximum.at(b, ([0, 0, 1], 1), w[:3])
b = a.T; np.multiply.at(b, [0, 0], 0.5)
b = a; b[..., -1] = b[..., 0]
b = a; b[1:] = b[:-1]
b = a; b[:-1] = b[1:] * 2
b = a; a[0], a[1] = a[1], a[0]
b = a; b[0, 0] += w[0]
b = a[0]; b[0] += w[0]; b[0] *= 2
b = a; b //= 0.3
b = a; b **= 2
b = a; b @= np.eye(4)
b = a; b.sort()
b = a[0]; b.sort()
b = a; b.fill(2.0)
b = a[1]; b.fill(w[1])
b = np.zeros(()); b += w[0]; c = b; c += 1
b = np.zeros(()); b[()] = w[0]; c = b.reshape(-1); c[0] *= 3
b = np.zeros((3, 4), dtype=np.float32); b += a
b = np.zeros(3, dtype=int); b[0] = 2; a[b] = 1
b = a > 0; b[0] = True; a = a * b
b = a > 0; b |= a < -1; a = a * b
b = np.ones((3, 4)); b[0] = 2; b[1] = 3; c = b[2]; c[0] = 4; b = b * a
b = np.zeros((2, 3, 4)); b[1] = a; c = b.reshape(6, 4); c[5] = w
b = np.zeros(12); c = b.reshape(3, 4); c[:] = a; b[0] = 1
b = np.empty(4); b[:2] = w[:2]; b[2:] = 0
b = [a[0], a[1]]; b[0] += 1; b = b[0]
b = np.put_along_axis(a, np.array([[0], [1], [2]]), 9.0, 1); b = a
np.copyto(a[0], w); b = a
np.fill_diagonal(a, w[:3]); b = a
b = a.T[1:3]; b += w[2:, None]
b = a.item(0); a[0, 0] = 5
b = a[0, 0]; a[0, 0] = 5
"""


@pytest.mark.parametrize("program", PROGRAMS.strip().splitlines())
@pytest.mark.parametrize("start", ["p['a'].copy()", "p['a'] * 1.0", "p['a']"])
def test_writes_reach_the_views_that_numpy_s_reach(program: str, start: str) -> None:
    code = compile(f"a = {start}; w = p['w']; {program}", "program", "exec")

    def loss(p: dict[str, Any]) -> Any:
        space: dict[str, Any] = {"np": np, "p": p}
        exec(code, space)
        return np.sum(np.sin(space["a"])) + np.sum(np.cos(space["b"])) + np.sum(p["w"] ** 2)

    rng = np.random.default_rng(2)
    traced(loss, {"a": rng.normal(size=(3, 4)), "w": rng.normal(size=4)})


def test_a_column_major_parameter_keeps_its_layout(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        a = a * 1.0
        flat = a.ravel(order="K")
        flat[:3] = 0
        return np.sum(a * np.arange(12.0).reshape(3, 4))

    traced(loss, np.asfortranarray(x))


def test_a_part_stored_where_it_lies_is_written_once(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        b = a.copy()
        b[1:] += 2.0
        return b.sum()

    graph = traced(loss, x)
    assert sum(node.primitive is WRITE for node in graph) == 1


def test_the_user_s_array_may_change_in_between(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        data = np.arange(4.0).tolist()
        plain = np.float64([1, 1, 1, 1]) * data
        first = np.sum(a * plain)
        plain[0] = 100.0
        return first + np.sum(np.exp(a) * plain)

    traced(loss, x)


def test_an_index_may_change_in_between(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        rows = np.array([0, 1])
        first = a[rows].sum()
        rows[:] = 2
        return first - a[rows].prod()

    traced(loss, x)


def test_constants_of_equal_content_share_a_node(x: np.ndarray) -> None:
    data = np.ones((3, 4))

    def loss(a: Any) -> Any:
        return np.sum(a * data) + np.sum(a + data)

    graph = traced(loss, x)
    assert sum(node.value.shape == (3, 4) and node.constant for node in graph) == 1


def test_a_write_that_does_not_fit_raises_numpy_s_own_error(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        b = a.copy()
        try:
            b[0] = np.ones(3)
        except ValueError:
            b[0] = 1.0
        try:
            b += np.ones((2, 3, 4))
        except ValueError:
            b += 1.0
        return b.sum()

    traced(loss, x)


def test_a_scalar_is_rebound_not_written(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        total = other = a[0, 0]
        total += a[1, 1]
        return total * 2 + other

    traced(loss, x)


def test_writing_into_a_parameter_leaves_the_tree_alone(x: np.ndarray) -> None:
    tree = ParamTree.from_user(x)

    def loss(a: Any) -> Any:
        a[0] = 0.0
        a *= 2
        return a.sum()

    trace(loss, tree)
    np.testing.assert_array_equal(tree["params"].value, x)
