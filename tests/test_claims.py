"""The figures that the README and the benchmarks rest on, on the network that they name."""

import subprocess
import sys

import numpy as np
import pytest

import fastcheck
from fastcheck.problems import mlp

MEMORY_SCRIPT = """
import resource
import fastcheck
from fastcheck.problems import mlp

def peak():
    # Linux counts kibibytes, macOS bytes.
    import sys
    unit = 1024 if sys.platform.startswith("linux") else 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

problem = mlp.mlp_problem((784, 100, 10), 128)
imported = peak()
report = fastcheck.check(problem.loss, problem.params, problem.grads, memory="64MB")
assert report, report
assert report.checked == 79_510
print(peak() - imported)
"""


@pytest.fixture(scope="module")
def problem() -> fastcheck.Problem:
    return mlp.mlp_problem((784, 10, 10), 128)


def test_replay_equals_the_loop_at_a_step_of_0_3(problem):
    replay, loop = (
        fastcheck.numerical_gradient(problem.loss, problem.params, step=0.3, engine=engine)
        for engine in ("replay", "loop")
    )
    for name in problem.params:
        scale = np.abs(loop[name]).max()
        np.testing.assert_allclose(replay[name], loop[name], rtol=0, atol=1e-10 * scale)


def test_replay_is_within_1e_9_of_the_exact_gradient(problem):
    numeric = fastcheck.numerical_gradient(problem.loss, problem.params, step=1e-6)
    exact = problem.gradients()
    difference = sum(np.sum((numeric[name] - exact[name]) ** 2) for name in exact)
    size = sum(np.sum(exact[name] ** 2) for name in exact)
    assert np.sqrt(difference / size) <= 1e-9


def test_every_parameter_of_784_10_10_passes(problem):
    report = fastcheck.check(problem.loss, problem.params, problem.grads)
    assert report.passed
    assert report.checked == 7_960
    assert report.forward_passes == 15_920
    assert {tensor.engine for tensor in report.tensors.values()} <= {"fused", "replay"}
    assert report.loss_calls < 60


def test_stacks_stay_within_the_memory_asked_for():
    pytest.importorskip("resource", reason="Windows has no resource usage to read")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 64_000_000 + 200 * 2**20
