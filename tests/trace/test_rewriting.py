"""Functions whose calls are led through the trace: what they mean, and what they stay."""

import inspect
import math
import traceback
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.engines.tracing import escaped_number
from fastcheck.params import ParamTree
from fastcheck.trace.rewriting import _codes_of, _rewritten_code
from fastcheck.trace.tracer import trace

from .conftest import refusal, traced

FUNCTIONS = """
float(a[0, 0]) * a.sum()
float(a[0, 0]) + float(a[1, 1])
float(np.float32(2.0)) * a[0, 1] + float("1.5") + float(a[:1, :1].sum()) ** 2
np.float64(a[0, 0]) * a.sum()
np.sum(np.float64(a) ** 2) + np.sum(np.float64([a[0, 0], a[1, 1]]) ** 2)
math.exp(a[0, 0]) + math.log(a[0, 0] ** 2) + math.log(a[0, 1] ** 2, 2)
math.sqrt(a[0, 0] ** 2) + math.tanh(a[0, 1]) + math.sin(a[0, 2]) + math.cos(a[1, 0])
math.log1p(a[0, 0] ** 2) + math.expm1(a[0, 1]) + math.log2(a[1, 0] ** 2) + math.log10(a[1, 1] ** 2)
math.pow(a[0, 0], 2) + math.fabs(a[0, 1]) + math.atan2(a[0, 0], a[0, 1]) + math.hypot(*a[0, :2])
math.fsum([float(x) ** 2 for x in a.ravel()]) + math.fsum(x * 2 for x in a[0])
sum(float(x) ** 2 for x in a.ravel())
max(float(a[0, 0]), 0.0) + min(float(a[0, 1]), 10.0) + abs(float(a[1, 1]))
np.sum(a * np.array([float(a[0, 0])] * 4))
np.mean([float(np.sum(row**2)) for row in a])
"""


@pytest.mark.parametrize("body", FUNCTIONS.strip().splitlines())
def test_numbers_stay_traced(body: str, x: np.ndarray, tmp_path: Any, monkeypatch: Any) -> None:
    source = f"import math\nimport numpy as np\ndef loss(a):\n    return {body}\n"
    loss = _from_file(source, tmp_path, monkeypatch)
    graph = traced(loss, x, relative=1e-11)
    assert escaped_number(graph, "params") is None


def _from_file(source: str, folder: Any, monkeypatch: Any) -> Any:
    path = folder / "module_of_mine.py"
    path.write_text(source)
    space: dict[str, Any] = {"__name__": "module_of_mine"}
    exec(compile(source, str(path), "exec", dont_inherit=True), space)
    return space["loss"]


def test_a_running_mean_in_floats_has_the_right_gradient(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        total = 0.0
        for row in a:
            total += float(np.sum(np.tanh(row) ** 2))
        return total / len(a)

    right = 2 * np.tanh(x) * (1 - np.tanh(x) ** 2) / 3
    report = fastcheck.check(loss, x, right)
    assert report.passed
    assert report.tensors["params"].engine in ("replay", "fused")
    assert not fastcheck.check(loss, x, right * (1 + 1e-4)).passed


def test_what_is_only_logged(x: np.ndarray, capsys: Any) -> None:
    history: list[float] = []
    best = {"loss": math.inf}

    def loss(a: Any) -> Any:
        total = np.sum(np.tanh(a) ** 2)
        data = float(np.mean(a**2))
        history.append(data)
        print(f"{data:.3f}", "%.2f" % float(a[0, 0]), "{:.1f}".format(float(a[0, 1])))  # noqa: UP031, UP032
        print("both %.2f %s" % (a[0, 0], a[0, 1]), "named %(a).1f" % {"a": a[0, 0]})  # noqa: UP031
        best["loss"] = min(best["loss"], data)
        accuracy = float(np.mean(a > 0))
        print(round(accuracy, 2), round(data), math.isnan(data))
        return total

    assert escaped_number(traced(loss, x), "params") is None
    assert "%.2f" % x[0, 0] in capsys.readouterr().out  # noqa: UP031


def test_a_branch_on_a_float_is_a_guard(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        return a.sum() if float(np.mean(a)) > 0 else a.prod() * float(a[0, 0])

    graph = traced(loss, x)
    assert {guard.action for guard in graph.guards} == {"a branch"}
    assert all(guard.discrete for guard in graph.guards)


def test_a_number_is_not_written_through(x: np.ndarray) -> None:
    """A float is no array: `total += …` binds a new one, and leaves the other name alone."""

    def loss(a: Any) -> Any:
        first = float(np.float32(0.1) * a.astype(np.float32)[0, 0])
        second = first
        second += float(a[1, 1])
        return first * 3 + second

    traced(loss, x, relative=1e-6)


class Base:
    scale = 2.0

    def forward(self, a: Any) -> Any:
        return float(np.sum(a)) * self.scale


class Derived(Base):
    __hidden = 3.0

    def __private(self, a: Any) -> Any:
        return float(a[0, 0]) * self.__hidden

    def forward(self, a: Any) -> Any:
        return super().forward(a) + self.__private(a) + sum(self.parts(a))

    def parts(self, a: Any) -> Iterator[Any]:
        for row in a:
            yield float(row @ row)


def test_classes_closures_generators_and_caches(x: np.ndarray) -> None:
    net = Derived()
    count = 0

    @cache
    def ones(n: int) -> Any:
        return np.ones(n)

    def loss(a: Any) -> Any:
        nonlocal count
        count += 1

        def inner(b: Any, *, factor: Any = 2.0) -> Any:
            return float(b[0, 0]) * factor * ones(4).dot(a[0])

        names = sorted(locals())
        return net.forward(a) + inner(a) + len(names) + (lambda b: float(b[1, 1]))(a)

    loss(x)  # the cache then holds what it always holds
    graph = traced(loss, x)
    assert escaped_number(graph, "params") is None
    assert count > 3


def test_the_lines_stay_the_user_s(x: np.ndarray) -> None:
    hidden = {"data": (one for one in [np.ones(3)])}

    def loss(a: Any) -> Any:
        total = float(np.sum(a))
        total += 1.0
        return math.gamma(
            total,
        )

    graph = trace(loss, ParamTree.from_user(x))
    (guard,) = graph.guards
    assert guard.source.file == __file__
    assert guard.source.line == loss.__code__.co_firstlineno + 3
    assert guard.source.function == "loss"
    assert hidden


def test_the_traceback_of_an_error_shows_the_user_s_lines(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        number = float(np.mean(a))
        return {}["nothing"] if len(inspect.stack()) < 0 else math.gamma(number) + _fails(a)

    with pytest.raises(Exception, match="forward pass") as caught:
        trace(loss, ParamTree.from_user(x))
    cause = caught.value.__cause__
    assert cause is not None
    lines = [frame.lineno for frame in traceback.extract_tb(cause.__traceback__)]
    assert loss.__code__.co_firstlineno + 2 in lines


def _fails(a: Any) -> Any:
    raise LookupError("on purpose")


def test_code_that_is_not_that_of_its_file_stays_as_it_is(tmp_path: Any) -> None:
    path = tmp_path / "changed.py"
    path.write_text("def loss(a):\n    return float(a) + 1\n")
    code = compile("def loss(a):\n    return float(a) + 2\n", str(path), "exec")
    space: dict[str, Any] = {}
    exec(code, space)
    assert _rewritten_code(space["loss"].__code__) is None
    path.write_text("def loss(a:\n")
    assert _codes_of(str(path), ("def loss(a:\n",)) == {}
    assert _rewritten_code(compile("1", "<nowhere>", "exec")) is None


def test_code_without_a_source_is_refused_or_guarded(x: np.ndarray) -> None:
    space: dict[str, Any] = {"np": np}
    exec("def loss(a): return np.random.default_rng(0).random((5, 3)).dot(a).sum()", space)
    assert "turned into an ordinary one" in refusal(space["loss"], x)
    exec("def loss(a): return float(a[0, 0]) * a.sum()", space)
    assert escaped_number(trace(space["loss"], ParamTree.from_user(x)), "params") is not None


def test_the_module_s_names_are_as_before(x: np.ndarray) -> None:
    before = dict(globals())
    trace(lambda a: float(a[0, 0]) * a.sum(), ParamTree.from_user(x))
    assert globals() == before
