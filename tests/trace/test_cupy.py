"""CuPy in traces: its data are constants, its functions are NumPy's, and nothing slips through."""

import operator
import sys
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastcheck.params import ParamTree
from fastcheck.params.places import addresses
from fastcheck.trace.downloads import Downloads
from fastcheck.trace.graph import CONSTANT
from fastcheck.trace.tape import Converted, Tape, Untraceable
from fastcheck.trace.traced import Traced, wrap
from fastcheck.trace.tracer import trace

from .conftest import refusal

RNG = np.random.default_rng(0)


@pytest.fixture
def cp(standin_cupy: Any) -> Any:
    standin_cupy()
    return sys.modules["cupy"]


@pytest.fixture
def X(cp: Any) -> Any:
    return cp.asarray(RNG.normal(size=(4, 3)))


@pytest.fixture
def W(cp: Any) -> Any:
    return cp.asarray(RNG.normal(size=(3, 4)))


def traced(loss: Any, params: Any) -> Any:
    """Trace, and assert that the graph gives the loss at θ and, computed again, near θ."""
    tree = ParamTree.from_user(params)
    graph = trace(loss, tree)
    assert float(graph.output.value) == pytest.approx(float(loss(tree.copies())), rel=1e-12)
    moved = {t.name: t.value + 1e-3 * RNG.uniform(-1, 1, t.shape) for t in tree}
    assert graph.evaluate(moved) == pytest.approx(float(loss(tree.build(moved))), rel=1e-12)
    return graph


def constants(graph: Any, shape: tuple[int, ...]) -> int:
    return sum(node.primitive is CONSTANT and node.shape == shape for node in graph)


class TestData:
    def test_an_array_is_downloaded_once(self, cp: Any, X: Any, W: Any, monkeypatch: Any) -> None:
        shapes = []
        get = cp.ndarray.get

        def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
            shapes.append(self.shape)
            return get(self, *args, **kwargs)

        monkeypatch.setattr(cp.ndarray, "get", counting)
        graph = trace(lambda p: np.sum(X @ p) + np.sum(p @ X) + np.sum(X.T * p), _tree(W, shapes))
        assert shapes.count(X.shape) == 1
        assert constants(graph, X.shape) == 1

    def test_an_array_that_changes_on_the_way_is_downloaded_again(self, cp: Any, X: Any) -> None:
        buffer = cp.zeros(3)

        def loss(p: Any) -> Any:
            total = 0.0
            for i in range(4):
                buffer[...] = X[i]
                total = total + cp.sum(buffer * p) ** 2
            return total

        traced(loss, cp.ones(3))

    @pytest.mark.parametrize("kind", ["labels", "mask", "numbers", "pair"])
    def test_arrays_on_the_device_index_traced_ones(self, cp: Any, W: Any, kind: str) -> None:
        labels = cp.asarray([2, 0, 1, 1])
        index = {
            "labels": (labels, cp.arange(4)),
            "mask": cp.asarray([True, False, True]),
            "numbers": labels,
            "pair": (slice(None), cp.asarray([0, 3])),
        }[kind]
        traced(lambda p: cp.sum(p[index] ** 2), W)

    def test_scalars_on_the_device_are_written_into_traced_arrays(self, cp: Any, W: Any) -> None:
        def loss(p: Any) -> Any:
            out = p * 2
            out[0] = W[1, 1]
            out[1, :2] = cp.asarray([W[0, 0], p[0, 0]])
            return cp.sum(out**2)

        traced(loss, W)

    def test_without_memory_for_a_copy_every_use_is_a_download(
        self, cp: Any, X: Any, monkeypatch: Any
    ) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise MemoryError

        monkeypatch.setattr(cp.ndarray, "copy", full)
        downloads = Downloads()
        first = downloads.of(X)
        X[0, 0] = 7.0
        assert first[0, 0] != 7.0
        assert downloads.of(X)[0, 0] == 7.0

    def test_a_download_cannot_be_written(self, X: Any) -> None:
        assert not Downloads().of(X).flags.writeable


def _tree(params: Any, shapes: list[Any]) -> ParamTree:
    tree = ParamTree.from_user(params)
    shapes.clear()
    return tree


class TestFunctions:
    def test_arrays_made_inside_collect_traced_values(self, cp: Any, X: Any, W: Any) -> None:
        def loss(p: Any) -> Any:
            hidden = cp.zeros((5, 3))
            for t in range(4):
                hidden[t + 1] = cp.tanh(hidden[t] + p[:, t] * X[t])
            total = cp.zeros(())
            total += cp.sum(hidden)
            total[...] = total * 2
            return total + cp.asarray([p[0, 0], hidden[1, 1]]).sum()

        traced(loss, W)

    def test_zeros_like_an_array_on_the_device(self, cp: Any, X: Any, W: Any) -> None:
        def loss(p: Any) -> Any:
            out = cp.zeros_like(X)
            again = np.zeros_like(X)
            out[...] = p.T
            again[0] = p[:, 0]
            return cp.sum(out * X) + cp.sum(again)

        traced(loss, W)

    def test_integer_arrays_stay_on_the_device(self, cp: Any, W: Any) -> None:
        seen = []
        note = seen.append

        def loss(p: Any) -> Any:
            counts = cp.zeros(3, dtype=int)
            note(type(counts))
            note(type(cp.zeros_like(counts)))
            return cp.sum(p)

        trace(loss, ParamTree.from_user(W))
        assert seen == [cp.ndarray, cp.ndarray]

    def test_names_imported_from_cupy(self, cp: Any, X: Any, W: Any) -> None:
        dot, exp, asarray = cp.dot, cp.exp, cp.asarray
        traced(lambda p: exp(dot(X, asarray(p))).sum(), W)

    def test_results_go_where_out_says(self, cp: Any, X: Any, W: Any) -> None:
        def loss(p: Any) -> Any:
            out = cp.empty((4, 4))
            cp.matmul(X, p, out=out)
            cp.exp(out, out=out)
            return out.mean()

        traced(loss, W)

    def test_functions_of_ufuncs(self, cp: Any, X: Any, W: Any) -> None:
        traced(lambda p: cp.add.reduce(cp.multiply(X.T, p), axis=0).sum() ** 2, W)

    def test_get_and_asnumpy_leave_an_array_where_it_is(self, cp: Any, W: Any) -> None:
        traced(lambda p: np.sum(cp.asnumpy(p) ** 2) + np.sum(p.get()), W)

    def test_the_array_module_of_anything_traces(self, cp: Any, X: Any, W: Any) -> None:
        seen = []
        note = seen.append

        def loss(p: Any) -> Any:
            modules = cp.get_array_module(p), cp.get_array_module(X), cp.get_array_module(1.0)
            note([module is cp for module in modules])
            note(modules[2] is np)
            return sum(module.sum(module.exp(p)) for module in modules[:2])

        trace(loss, ParamTree.from_user(W))
        assert seen == [[True, True, False], True]

    def test_modules_inside_cupy(self, cp: Any, W: Any, monkeypatch: Any) -> None:
        linalg = ModuleType("cupy.linalg")
        linalg.norm = lambda x: cp.sqrt(cp.sum(x * x))  # type: ignore[attr-defined]
        monkeypatch.setitem(vars(cp), "linalg", linalg)
        graph = traced(lambda p: cp.linalg.norm(p), W)
        assert "sqrt" in {node.primitive.name for node in graph}

    def test_special_functions(self, cp: Any, W: Any, monkeypatch: Any) -> None:
        pytest.importorskip("scipy.special")
        special: Any = sys.modules["cupyx.scipy.special"]

        def of_arrays_only(x: Any, **_: Any) -> Any:
            assert isinstance(x, cp.ndarray)
            return cp.log(cp.sum(cp.exp(x)))

        monkeypatch.setattr(special, "logsumexp", of_arrays_only, raising=False)
        expit, logsumexp = special.expit, special.logsumexp
        graph = traced(lambda p: expit(p).sum() + logsumexp(p), W)
        assert {"expit", "logsumexp"} <= {node.primitive.name for node in graph}

    def test_the_type_is_cupys_and_not_numpys(self, cp: Any, W: Any) -> None:
        seen = []
        note = seen.append

        def loss(p: Any) -> Any:
            kinds = (cp.ndarray, np.ndarray, float)
            note([isinstance(p, kind) for kind in kinds])
            note([isinstance(W, kind) for kind in kinds])
            note([isinstance(cp.sum(p), kind) for kind in kinds])
            note(p.device == W.device)
            return cp.sum(p)

        trace(loss, ParamTree.from_user(W))
        assert seen == [[True, False, False]] * 3 + [True]

    def test_universal_functions_imported_inside_the_loss(self, X: Any, W: Any) -> None:
        def loss(p: Any) -> Any:
            import cupy

            return cupy.where(X.T > 0, cupy.maximum(p, 0.1), cupy.exp(X.T)).sum()

        with pytest.raises(Untraceable):  # `cupy.where` is an ordinary function
            trace(loss, ParamTree.from_user(W))

        def loss_of_ufuncs(p: Any) -> Any:
            import cupy

            return np.sum(cupy.maximum(p, 0.1) * cupy.exp(X.T) ** cupy.sign(p) + cupy.square(p))

        traced(loss_of_ufuncs, W)


class TestRefusals:
    @pytest.mark.parametrize(
        "write",
        [
            lambda cp, X, p: operator.iadd(X, p.T),
            lambda cp, X, p: cp.exp(p.T, out=X),
            lambda cp, X, p: cp.copyto(X, p.T),
            lambda cp, X, p: np.add(X, p.T, out=X),
        ],
        ids=["iadd", "out", "copyto", "numpy out"],
    )
    def test_arrays_of_the_user_are_not_written(self, cp: Any, X: Any, W: Any, write: Any) -> None:
        held = SimpleNamespace(X=X)
        before = X.get()

        def loss(p: Any) -> Any:
            write(cp, held.X, p)
            return cp.sum(held.X)

        assert "an ordinary array is written in place with a traced value" in refusal(loss, W)
        assert X.get().tobytes() == before.tobytes()

    def test_what_cupy_compiled_says_the_way_out(self, X: Any, W: Any) -> None:
        held = MappingProxyType({"X": X})

        def loss(p: Any) -> Any:
            return np.sum(next(map(held["X"].dot, [p])))

        message = refusal(loss, W)
        line = loss.__code__.co_firstlineno + 1
        assert message.startswith(
            "the forward pass cannot run on traced arrays: TypeError: Argument 'b' has incorrect "
            "type"
        )
        assert f"({__file__}:{line}); write xp = cupy.get_array_module(x)" in message
        assert "or import cupy at the top of your module" in message
        assert message.endswith("or give batched=True")

    def test_kernels_of_the_user(self, W: Any) -> None:
        kernel = SimpleNamespace(name="leaky_relu", nin=1)

        def loss(p: Any) -> Any:
            return np.sum(p.__cupy_override_elementwise_kernel__(kernel, p))

        message = refusal(loss, W)
        assert "the CuPy kernel 'leaky_relu' of an array that depends on the parameters" in message
        assert "batched=True" in message

    def test_functions_that_numpy_has_not(self, cp: Any, W: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(cp, "fancy", lambda x: x, raising=False)
        assert "cupy.<lambda> of an array that depends on the parameters" in refusal(
            lambda p: cp.sum(cp.fancy(p)), W
        )

    @pytest.mark.parametrize("name", ["data", "set"])
    def test_memory_of_the_device(self, W: Any, name: str) -> None:
        loss = lambda p: np.sum(p) + len(str(getattr(p, name)))  # noqa: E731
        assert f"cupy.ndarray.{name} cannot be traced; write xp =" in refusal(loss, W)


def real_cupy() -> Any:
    return pytest.importorskip("cupy", reason="CuPy is not installed")


@pytest.fixture
def made_up(monkeypatch: Any) -> Any:
    """A real CuPy array over memory that does not exist: its operators dispatch, no more."""
    cupy = real_cupy()
    monkeypatch.setattr(Downloads, "of", lambda self, array: np.full(array.shape, 2.0))
    memory = cupy.cuda.memory.UnownedMemory(1 << 40, 1 << 20, None, 0)
    return cupy.ndarray((2, 2), dtype="f8", memptr=cupy.cuda.MemoryPointer(memory, 0))


@pytest.fixture
def parameter() -> Traced:
    tape = Tape(SimpleNamespace(device=None))  # type: ignore[arg-type]
    return wrap(tape, tape.parameter("W", np.array([[1.0, -2.0], [3.0, 0.5]])))


class TestTheRealCuPy:
    """What the stand-in pretends, on the real one; no kernel is launched."""

    @pytest.mark.parametrize(
        "name",
        "add sub mul truediv floordiv mod pow matmul lt le gt ge eq ne".split(),
    )
    def test_operators_hand_over(self, made_up: Any, parameter: Traced, name: str) -> None:
        function = getattr(operator, name)
        ones = np.full((2, 2), 2.0)
        for left, right in ((made_up, parameter), (parameter, made_up)):
            result = function(left, right)
            assert type(result) is Traced
            assert result.node.tensors == {"W"}
            plain = [x.value if type(x) is Traced else ones for x in (left, right)]
            with np.errstate(all="ignore"):
                np.testing.assert_array_equal(result.value, function(*plain))

    @pytest.mark.parametrize(
        "call",
        [
            lambda xp, X, W: np.dot(X, W),
            lambda xp, X, W: np.matmul(X, W),
            lambda xp, X, W: np.maximum(X, W),
            lambda xp, X, W: np.where(X, W, 0.0),
            lambda xp, X, W: np.concatenate([X, W]),
            lambda xp, X, W: np.einsum("ij,jk->ik", X, W),
            lambda xp, X, W: xp.maximum(0, W),
            lambda xp, X, W: xp.exp(W) * X,
            lambda xp, X, W: xp.sum(W, axis=0, keepdims=True),
            lambda xp, X, W: xp.mean(W),
            lambda xp, X, W: xp.clip(W, 0, 1),
            lambda xp, X, W: xp.dot(W, X),
            lambda xp, X, W: xp.linalg.norm(W),
        ],
    )
    def test_functions_hand_over(self, made_up: Any, parameter: Traced, call: Any) -> None:
        result = call(sys.modules["cupy"], made_up, parameter)
        assert type(result) is Traced
        assert result.node.tensors == {"W"}

    @pytest.mark.parametrize(
        "write",
        [
            lambda xp, X, W: operator.iadd(X, W),
            lambda xp, X, W: operator.itruediv(X, W),
            lambda xp, X, W: X.__setitem__(..., W),
            lambda xp, X, W: X.__setitem__(0, W[0]),
            lambda xp, X, W: np.add(X, W, out=X),
            lambda xp, X, W: xp.add(X, W, out=X),
            lambda xp, X, W: np.copyto(X, W),
            lambda xp, X, W: xp.add.at(X, 0, W[0]),
        ],
    )
    def test_writes_are_refused(self, made_up: Any, parameter: Traced, write: Any) -> None:
        with pytest.raises(Converted, match="ordinary"):
            write(sys.modules["cupy"], made_up, parameter)

    @pytest.mark.parametrize("name", ["dot", "tensordot"])
    def test_compiled_functions_take_no_traced_arrays(
        self, made_up: Any, parameter: Traced, name: str
    ) -> None:
        with pytest.raises(TypeError, match="incorrect type"):
            getattr(sys.modules["cupy"], name)(made_up, parameter)
        with pytest.raises(TypeError, match="incorrect type"):
            made_up.dot(parameter)

    def test_kernels_of_the_user_are_refused(self, made_up: Any, parameter: Traced) -> None:
        kernel = sys.modules["cupy"].ElementwiseKernel("T x", "T y", "y = x", "leaky_relu")
        with pytest.raises(Untraceable, match="the CuPy kernel 'leaky_relu' of an array"):
            kernel(parameter)

    def test_every_universal_function_is_known_or_refused(self, parameter: Traced) -> None:
        cupy = real_cupy()
        unknown = []
        for name, thing in vars(cupy).items():
            if isinstance(thing, cupy.ufunc) and thing.nin == 1:
                try:
                    found = thing(parameter)  # two arrays from modf, one from the others
                    for one in found if type(found) is tuple else (found,):
                        assert type(one) is Traced
                except Untraceable:
                    unknown.append(name)
                except TypeError:  # a function of integers
                    assert name in ("invert", "bitwise_not", "bitwise_invert", "bitwise_count")
        assert {"exp", "tanh", "sqrt", "log", "absolute"}.isdisjoint(unknown)
        assert len(unknown) < 12, unknown

    def test_views_overlap_as_on_the_host(self, made_up: Any) -> None:
        mine = addresses(made_up)
        assert mine.shape == (2, 2)
        assert np.shares_memory(mine, addresses(made_up[:, 1]))
        assert not np.shares_memory(addresses(made_up[:, 0]), addresses(made_up[:, 1]))

    def test_the_generators_of_the_devices_are_put_aside(self) -> None:
        cupy = real_cupy()
        from fastcheck.keep import keep

        module: Any = sys.modules["cupy.random._generator"]
        mine = module._random_states
        mine[0] = drawn = SimpleNamespace()
        try:
            with keep(loss=None, params={}):
                assert module._random_states == {}
                module._random_states[0] = SimpleNamespace()
            assert module._random_states is mine
            assert mine == {0: drawn}
        finally:
            del mine[0]
        assert cupy.random.RandomState.__module__ == module.__name__
