"""CuPy arrays as parameters, gradients and data: all is as with NumPy's."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import fastcheck

SIZES = (6, 5, 3)
SAMPLES = 8


@pytest.fixture
def cp(standin_cupy):
    standin_cupy()
    return sys.modules["cupy"]


def network(seed=0):
    """Parameters, samples in columns, labels, on the host."""
    rng = np.random.default_rng(seed)
    n, hidden, classes = SIZES
    params = {
        "W1": rng.normal(size=(hidden, n)) / np.sqrt(n),
        "b1": 0.1 * rng.normal(size=(hidden, 1)),
        "W2": rng.normal(size=(classes, hidden)) / np.sqrt(hidden),
        "b2": 0.1 * rng.normal(size=(classes, 1)),
    }
    return params, rng.normal(size=(n, SAMPLES)), rng.integers(0, classes, SAMPLES)


def backward(params, X, y):
    """The gradient of relu-softmax, in NumPy."""
    Z1 = params["W1"] @ X + params["b1"]
    A1 = np.maximum(0, Z1)
    Z2 = params["W2"] @ A1 + params["b2"]
    P = np.exp(Z2 - Z2.max(axis=0))
    dZ2 = P / P.sum(axis=0)
    dZ2[y, np.arange(SAMPLES)] -= 1
    dZ2 /= SAMPLES
    dZ1 = (params["W2"].T @ dZ2) * (Z1 > 0)
    return {
        "W1": dZ1 @ X.T,
        "b1": dZ1.sum(axis=1, keepdims=True),
        "W2": dZ2 @ A1.T,
        "b2": dZ2.sum(axis=1, keepdims=True),
    }


def on_device(cp, tree):
    return {name: cp.asarray(array) for name, array in tree.items()}


def numpy_functions(cp, X, y):
    def loss(p):
        A = np.maximum(0, np.dot(p["W1"], X) + p["b1"])
        Z = np.dot(p["W2"], A) + p["b2"]
        Z = Z - np.max(Z, axis=0, keepdims=True)
        logp = Z - np.log(np.sum(np.exp(Z), axis=0, keepdims=True))
        return -np.mean(logp[y, np.arange(SAMPLES)])

    return loss


def operators(cp, X, y):
    Y = cp.asarray(np.eye(SIZES[2])[y.get()].T)

    def loss(p):
        Z1 = X.T @ p["W1"].T + p["b1"].T
        Z = (Z1 * (Z1 > 0)) @ p["W2"].T + p["b2"].T
        Z -= Z.max(axis=1, keepdims=True)
        return -(Y.T * Z).sum() / SAMPLES + np.log(np.exp(Z).sum(axis=1)).mean()

    return loss


def module_of_a_parameter(cp, X, y):
    def loss(p):
        xp = cp.get_array_module(p["W1"])
        A = xp.maximum(0, xp.dot(p["W1"], X) + p["b1"])
        Z = xp.dot(p["W2"], A) + p["b2"]
        Z = Z - xp.max(Z, axis=0, keepdims=True)
        logp = Z - xp.log(xp.sum(xp.exp(Z), axis=0, keepdims=True))
        return float(-xp.mean(logp[y, xp.arange(SAMPLES)]))

    return loss


def module_of_the_data(cp, X, y):
    def loss(p):
        xp = cp.get_array_module(X)
        A = xp.maximum(0, xp.dot(p["W1"], X) + p["b1"])
        Z = xp.dot(p["W2"], A) + p["b2"]
        Z = Z - xp.max(Z, axis=0, keepdims=True)
        logp = Z - xp.log(xp.sum(xp.exp(Z), axis=0, keepdims=True))
        return -xp.mean(logp[y, xp.arange(SAMPLES)]).get()

    return loss


def hard_coded(cp, X, y):
    exp, matmul = cp.exp, cp.matmul

    def loss(p):
        Z1 = cp.empty((SIZES[1], SAMPLES))
        Z1[...] = matmul(p["W1"], X) + p["b1"]
        A = cp.where(Z1 > 0, Z1, cp.zeros_like(Z1))
        Z = matmul(p["W2"], A) + p["b2"]
        Z -= cp.max(Z, axis=0, keepdims=True)
        P = exp(Z) / cp.sum(exp(Z), axis=0, keepdims=True)
        return -cp.log(P[y, cp.arange(SAMPLES)]).mean()

    return loss


def methods_of_the_data(cp, X, y):
    """`X.T.dot` is compiled and takes CuPy arrays only: the data are traced too."""

    def loss(p):
        Z1 = X.T.dot(p["W1"].T) + p["b1"].T
        Z = cp.maximum(Z1, 0).dot(p["W2"].T) + p["b2"].T
        Z = Z - Z.max(axis=1, keepdims=True)
        logp = Z - cp.log(cp.exp(Z).sum(axis=1, keepdims=True))
        return -logp[cp.arange(SAMPLES), y].sum() / SAMPLES

    return loss


class Net:
    """Holds its arrays on itself, as many people write it."""

    def __init__(self, cp, X, y):
        self.cp, self.X, self.y = cp, X, y
        self.cache = {}
        self.calls = 0

    def loss(self, p):
        self.calls += 1
        self.W1, self.b1 = p["W1"], p["b1"]
        self.cache["Z1"] = self.W1 @ self.X + self.b1
        self.cache["A1"] = np.maximum(self.cache["Z1"], 0)
        Z = p["W2"] @ self.cache["A1"] + p["b2"]
        Z = Z - np.max(Z, axis=0)
        logp = Z - np.log(np.sum(np.exp(Z), axis=0))
        return -np.mean(logp[self.y, np.arange(SAMPLES)])


class Layer:
    """Computes with the module that it is given."""

    def __init__(self, xp, x):
        self.xp = xp
        self.x = x

    def forward(self, W, b, x=None):
        return self.xp.dot(W, self.x if x is None else x) + b


def modules_on_objects(cp, X, y):
    net = SimpleNamespace(xp=cp, layers=[Layer(cp, X), Layer(cp, None)])

    def loss(p):
        A = net.layers[0].forward(p["W1"], p["b1"])
        Z = net.layers[1].forward(p["W2"], p["b2"], net.xp.clip(A, 0, None))
        Z = Z - net.xp.max(Z, axis=0, keepdims=True)
        P = net.xp.exp(Z)
        P /= net.xp.sum(P, axis=0, keepdims=True)
        return -net.xp.mean(net.xp.log(P[y, np.arange(SAMPLES)]))

    return loss


def methods_of_a_class(cp, X, y):
    return Net(cp, X, y).loss


STYLES = [
    numpy_functions,
    operators,
    module_of_a_parameter,
    module_of_the_data,
    hard_coded,
    methods_of_the_data,
    methods_of_a_class,
    modules_on_objects,
]


@pytest.fixture(params=STYLES, ids=lambda style: style.__name__)
def problem(request, cp):
    """A loss in one style, its parameters on the device, and its gradient on the host."""
    host, X, y = network()
    loss = request.param(cp, cp.asarray(X), cp.asarray(y))
    return SimpleNamespace(loss=loss, params=on_device(cp, host), grads=backward(host, X, y))


def engines(report):
    return {tensor.engine for tensor in report.tensors.values()}


class TestStyles:
    def test_a_right_gradient_passes_and_is_replayed(self, cp, problem):
        report = fastcheck.check(
            problem.loss, problem.params, on_device(cp, problem.grads), device="cpu"
        )
        assert report, str(report)
        assert engines(report) <= {"replay", "fused"}, str(report)
        assert report.relative_error < 1e-8

    @pytest.mark.parametrize("tensor", ["W1", "b1", "W2", "b2"])
    def test_a_wrong_gradient_fails(self, cp, problem, tensor):
        wrong = {**problem.grads, tensor: 1.01 * problem.grads[tensor]}
        report = fastcheck.check(problem.loss, problem.params, on_device(cp, wrong), device="cpu")
        assert report.failed == (tensor,) or list(report.failed) == [tensor]

    def test_the_loop_agrees(self, problem):
        report = fastcheck.check(
            problem.loss, problem.params, problem.grads, device="cpu", engine="loop"
        )
        assert report, str(report)

    def test_the_same_numbers_as_with_numpy(self, problem):
        host = {name: array.get() for name, array in problem.params.items()}
        _, X, y = network()

        def loss(p):
            A = np.maximum(0, np.dot(p["W1"], X) + p["b1"])
            Z = np.dot(p["W2"], A) + p["b2"]
            Z = Z - np.max(Z, axis=0, keepdims=True)
            logp = Z - np.log(np.sum(np.exp(Z), axis=0, keepdims=True))
            return -np.mean(logp[y, np.arange(SAMPLES)])

        expected = fastcheck.numerical_gradient(loss, host, device="cpu")
        found = fastcheck.numerical_gradient(problem.loss, problem.params, device="cpu")
        for name in host:
            np.testing.assert_allclose(found[name].get(), expected[name], rtol=1e-9, atol=1e-13)


def quadratic(p):
    return np.sum(p["w"] ** 3) / 3


class TestWhatIsGiven:
    def test_gradients_may_be_numpy_or_cupy_or_both(self, cp):
        host, X, y = network()
        loss = numpy_functions(cp, cp.asarray(X), cp.asarray(y))
        grads = backward(host, X, y)
        mixed = {
            "dW1": grads["W1"],
            "dB1": cp.asarray(grads["b1"]),
            **on_device(cp, {"dW2": grads["W2"]}),
            "db2": grads["b2"],
        }
        assert fastcheck.check(loss, on_device(cp, host), mixed, device="cpu")

    def test_gradients_may_be_one_vector_on_the_device(self, cp):
        w = np.array([1.0, -2.0, 3.0])
        assert fastcheck.check(quadratic, {"w": cp.asarray(w)}, cp.asarray(w**2), device="cpu")

    def test_a_function_gets_cupy_arrays_and_may_return_either(self, cp):
        params = {"w": cp.asarray([1.0, -2.0, 3.0])}
        seen = []
        note = seen.append  # a list of the loss's own would be put back

        def grads(p):
            note(type(p["w"]))
            return {"w": p["w"] ** 2}

        assert fastcheck.check(quadratic, params, grads, device="cpu")
        assert fastcheck.check(quadratic, params, lambda p: p["w"].get() ** 2, device="cpu")
        assert seen == [cp.ndarray]

    def test_mixed_trees(self, cp):
        params = {"w": cp.asarray([1.0, -2.0]), "v": np.array([0.5, 3.0]), "s": 2.0}
        seen = []
        note = seen.append  # a list of the loss's own would be put back

        def loss(p):
            note([type(p[name]) for name in "wvs"])
            return cp.sum(p["w"] * cp.asarray(p["v"])) * p["s"]

        grads = {"w": 2.0 * params["v"], "v": 2.0 * params["w"].get(), "s": -5.5}
        report = fastcheck.check(loss, params, grads, device="cpu")
        assert report, str(report)
        assert engines(report) <= {"replay", "fused"}, str(report)
        assert seen[0] == [cp.ndarray, np.ndarray, np.float64]
        found = fastcheck.numerical_gradient(loss, params, device="cpu")
        assert [type(found[name]) for name in "wvs"] == [cp.ndarray, np.ndarray, np.float64]

    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_coarser_parameters_are_checked_in_float64(self, cp, dtype):
        w = np.array([1.1, -2.2, 3.3], dtype)
        seen = []
        note = seen.append  # a list of the loss's own would be put back

        def loss(p):
            note(p["w"].dtype)
            return cp.sum(p["w"] ** 3) / 3

        report = fastcheck.check(loss, {"w": cp.asarray(w)}, {"w": cp.asarray(w**2)}, device="cpu")
        assert report, str(report)
        assert set(seen) == {np.dtype("float64")}
        assert report.tensors["w"].dtype == dtype

    def test_numpy_parameters_that_the_loss_uploads(self, cp):
        X = cp.asarray(np.random.default_rng(0).normal(size=(4, 3)))

        def loss(p):
            W = cp.asarray(p)
            return float(cp.sum(cp.tanh(X @ W) ** 2))

        W = np.random.default_rng(1).normal(size=(3, 2))
        T = np.tanh(X.get() @ W)
        report = fastcheck.check(loss, W, X.get().T @ (2 * T * (1 - T**2)), device="cpu")
        assert report, str(report)
        assert engines(report) <= {"replay", "fused"}, str(report)

    @pytest.mark.parametrize(
        ("values", "flaw"),
        [
            ([1, 2], r"W: int64 array of shape \(2,\); use .astype\(float\)"),
            ([1j], r"W: complex128 array of shape \(1,\); use its .real"),
        ],
    )
    def test_arrays_of_other_types_are_refused(self, cp, values, flaw):
        with pytest.raises(fastcheck.errors.InputTypeError, match=flaw):
            fastcheck.check(quadratic, {"W": cp.asarray(np.array(values))}, [1.0])

    def test_nan_is_refused(self, cp):
        with pytest.raises(fastcheck.errors.InputError, match="NaN or infinite"):
            fastcheck.check(quadratic, {"w": cp.asarray([1.0, np.nan])}, [1.0, 1.0])

    def test_gradients_of_another_shape_are_named(self, cp):
        with pytest.raises(
            fastcheck.errors.InputError, match=r"w: shape \(2,\), but the .* \(3,\)"
        ):
            fastcheck.check(quadratic, {"w": cp.ones(3)}, {"w": cp.ones(2)})

    def test_an_array_as_the_loss_is_refused_as_with_numpy(self, cp):
        with pytest.raises(
            fastcheck.errors.InputError, match=r"an array of shape \(3,\): reduce it"
        ):
            fastcheck.check(lambda p: p["w"] * 2, {"w": cp.ones(3)}, {"w": cp.ones(3)})

    def test_shared_memory_is_noted(self, cp):
        w = cp.asarray([1.0, 2.0, 3.0])
        tree = {"head": w[:2], "tail": w[1:], "last": w[2:]}
        loss = lambda p: np.sum(p["head"] ** 2) + np.sum(p["tail"]) + np.sum(p["last"])  # noqa: E731
        report = fastcheck.check(loss, tree, [2 * w[:2], cp.ones(2), cp.ones(1)], device="cpu")
        assert report, str(report)
        assert [note for note in report.notes if "share memory" in note] == [
            "head and tail share memory; each was perturbed alone.",
            "tail and last share memory; each was perturbed alone.",
        ]

    def test_masks_on_the_device_select(self, cp):
        w = cp.asarray([1.0, -2.0, 3.0])
        chosen = {"w": cp.asarray([True, False, True])}
        report = fastcheck.check(quadratic, {"w": w}, {"w": w**2}, select=chosen, device="cpu")
        assert report.tensors["w"].checked == 2


class TestDevices:
    @pytest.mark.parametrize("engine", ["auto", "loop"])
    def test_any_layout_and_no_axes_at_all(self, cp, engine):
        rng = np.random.default_rng(0)
        host = {"F": rng.normal(size=(3, 2)), "t": rng.normal(size=(2, 3, 4)), "s": np.array(2.5)}
        params = {
            "F": cp.asarray(np.asfortranarray(host["F"])),
            "t": cp.asarray(host["t"]).transpose(2, 0, 1),
            "s": cp.asarray(host["s"]),
        }
        a, b = rng.normal(size=(3, 2)), cp.asarray(rng.normal(size=(4, 2, 3)))

        def loss(p):
            assert p["F"].shape == (3, 2)
            return (cp.sum(p["F"] * cp.asarray(a)) + cp.sum(p["t"] ** 2 * b)) * p["s"]

        terms = np.sum(host["F"] * a) + np.sum(host["t"].transpose(2, 0, 1) ** 2 * b.get())
        grads = {"F": 2.5 * a, "t": 2.5 * 2 * params["t"] * b, "s": cp.asarray(terms)}
        report = fastcheck.check(loss, params, grads, device="cpu", engine=engine)
        assert report, str(report)
        found = fastcheck.numerical_gradient(loss, params, device="cpu", engine=engine)
        assert found["s"].shape == ()
        np.testing.assert_allclose(found["F"].get(), 2.5 * a, rtol=1e-6)

    def test_what_is_returned_is_where_the_parameters_are(self, standin_cupy):
        standin_cupy(devices=2)
        cp = sys.modules["cupy"]
        with cp.cuda.Device(1):
            w = cp.asarray([1.0, -2.0, 3.0])
            found = fastcheck.numerical_gradient(quadratic, {"w": w}, device="cpu")["w"]
            looped = fastcheck.numerical_gradient(quadratic, {"w": w}, device="cpu", engine="loop")[
                "w"
            ]
            np.testing.assert_allclose(found.get(), [1.0, 4.0, 9.0], rtol=1e-9)
            np.testing.assert_allclose(looped.get(), [1.0, 4.0, 9.0], rtol=1e-6)
        assert found.device.id == looped.device.id == 1
        assert found.dtype == looped.dtype == np.float64

    def test_the_loss_runs_on_the_users_device_and_stream(self, cp):
        stream = cp.cuda.Stream(non_blocking=True)
        seen = set()

        def loss(p):
            seen.add((cp.cuda.Device().id, cp.cuda.get_current_stream().ptr))
            return cp.sum(p)

        with stream:
            tree = fastcheck.params.ParamTree.from_user(cp.ones(2))
            function = fastcheck.engines.loss.LossFunction(loss, tree)
        assert function.base() == 2.0
        assert seen == {(0, stream.ptr)}

    def test_the_loop_does_not_download_arrays(self, cp, monkeypatch):
        sizes = []
        get = cp.ndarray.get
        params = {"w": cp.ones(1000)}
        tree = fastcheck.params.ParamTree.from_user(params)
        engine = fastcheck.engines.loop.LoopEngine(
            fastcheck.engines.loss.LossFunction(lambda p: cp.sum(p["w"]), tree), tree
        )
        monkeypatch.setattr(
            cp.ndarray, "get", lambda self, **how: sizes.append(self.size) or get(self, **how)
        )
        engine.differences("w", np.arange(5), np.full(5, 1e-3))
        assert max(sizes) == 1


class TestNothingIsChanged:
    def test_arrays_are_as_they_were_bit_for_bit(self, cp, problem):
        grads = on_device(cp, problem.grads)
        before = [(a, a.get()) for a in (*problem.params.values(), *grads.values())]
        fastcheck.check(problem.loss, problem.params, grads, device="cpu")
        fastcheck.check(problem.loss, problem.params, grads, device="cpu", engine="loop")
        for array, was in before:
            assert array.get().tobytes() == was.tobytes()

    def test_buffers_that_the_loss_writes_are_put_back(self, cp):
        X = cp.asarray([1.0, -0.0, np.nan, 4.0])
        buffer = cp.zeros(4)
        calls = cp.zeros(1, dtype=int)
        before = X.get().tobytes()

        def loss(p):
            buffer[...] = X * 2
            X[1] = 3.0
            calls[0] += 1
            return cp.sum(p["w"] * 2)

        assert fastcheck.check(loss, {"w": cp.ones(4)}, {"w": np.full(4, 2.0)}, device="cpu")
        assert X.get().tobytes() == before
        assert buffer.get().tolist() == [0.0] * 4
        assert calls.get().tolist() == [0]

    def test_attributes_are_put_back(self, cp):
        host, X, y = network()
        net = Net(cp, cp.asarray(X), cp.asarray(y))
        before = dict(vars(net))
        grads = backward(host, X, y)
        assert fastcheck.check(net.loss, on_device(cp, host), grads, device="cpu")
        assert vars(net) == before
        assert net.cache == {}

    def test_a_loss_that_writes_into_its_argument_is_given_copies(self, cp):
        def loss(p):
            value = cp.sum(p["w"] ** 2)
            p["w"][...] = 0.0
            return value

        w = cp.asarray([1.0, 2.0])
        report = fastcheck.check(loss, {"w": w}, {"w": 2 * w}, device="cpu", engine="loop")
        assert report, str(report)
        assert any("writes into its argument (w)" in note for note in report.notes)
        assert w.get().tolist() == [1.0, 2.0]

    def test_the_names_in_the_users_module_are_put_back(self, cp, problem):
        before = {name: id(value) for name, value in globals().items()}
        layer = Layer(cp, None)
        fastcheck.check(problem.loss, problem.params, problem.grads, device="cpu")
        tree = fastcheck.params.ParamTree.from_user(cp.ones((2, 2)))
        fastcheck.trace.tracer.trace(lambda W: cp.sum(layer.forward(W, 0.0, W)), tree)
        assert {name: id(value) for name, value in globals().items()} == before
        assert cp is layer.xp is sys.modules["cupy"]


class TestRandomStates:
    def test_the_generators_of_the_devices_are_not_touched(self, cp, monkeypatch):
        module = ModuleType("cupy.random._generator")
        module._random_states = mine = {0: SimpleNamespace(drawn=3)}
        monkeypatch.setitem(sys.modules, "cupy.random._generator", module)
        seen = []
        note = seen.append  # a list of the loss's own would be put back

        def loss(p):
            note(dict(module._random_states))
            module._random_states.setdefault(0, SimpleNamespace(drawn=0)).drawn += 1
            return cp.sum(p)

        assert fastcheck.check(loss, cp.ones(2), cp.ones(2), device="cpu")
        assert module._random_states is mine
        assert mine == {0: SimpleNamespace(drawn=3)}
        assert seen[0] == {}

    def test_a_generator_that_the_loss_holds_is_not_touched(self, cp):
        class RandomState:
            """As CuPy's: what its handle stands for cannot be read."""

            def __init__(self, method=100):
                self.method, self.handle, self.drawn = method, object(), 0

            def draw(self):
                self.drawn += 1

        RandomState.__module__ = "cupy.random._generator"
        held = RandomState(method=7)
        held.draw()
        handle, seen = held.handle, []
        note = seen.append  # a list of the loss's own would be put back

        def loss(p):
            held.draw()
            note((held.method, held.handle is handle))
            return cp.sum(p)

        assert fastcheck.check(loss, cp.ones(2), cp.ones(2), device="cpu")
        assert held.handle is handle
        assert held.drawn == 1
        assert set(seen) == {(7, False)}

    def test_a_bit_generators_state_on_the_device_is_put_back(self, cp):
        class XORWOW:
            def __init__(self):
                self._state = cp.zeros(4, dtype=np.int8)

        XORWOW.__module__ = "cupy.random._bit_generator"
        generator = SimpleNamespace(bit_generator=XORWOW())

        def loss(p):
            generator.bit_generator._state[0] += 1
            return cp.sum(p)

        assert fastcheck.check(loss, cp.ones(2), cp.ones(2), device="cpu")
        assert generator.bit_generator._state.get().tolist() == [0, 0, 0, 0]
