"""Settings for the whole suite."""

import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

# Read when NumPy is first imported. A second BLAS thread gains nothing on matrices this small, and
# loses a lot where other processes want the core.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# A shell's job in the background ignores Ctrl-C, and so would all that it starts: tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Kernels that tests compile are kept in a folder of their own, which goes away with the process.
_KERNELS = tempfile.TemporaryDirectory(prefix="fastcheck-kernels-")
os.environ["FASTCHECK_CACHE_DIR"] = _KERNELS.name


def _load_standin():
    """Make the folder `standin` a package of that name, wherever the tests are run from."""
    folder = Path(__file__).with_name("standin")
    spec = importlib.util.spec_from_file_location(
        "standin", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules["standin"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


_load_standin()


_LEFT_OUT = pytest.StashKey[str]()


def pytest_collection_modifyitems(config, items):
    """Leave out what is marked `gpu` where there is no CUDA device; skip it if it is asked for."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    from fastcheck.devices.gpu import gpu_status

    missing = gpu_status().missing
    if not missing:
        return
    if "gpu" in config.option.markexpr:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"needs a CUDA device: {missing}"))
        return
    config.stash[_LEFT_OUT] = f"{len(marked)} tests need a CUDA device: {missing}"
    config.hook.pytest_deselected(items=marked)
    items[:] = [item for item in items if not item.get_closest_marker("gpu")]


def pytest_report_collectionfinish(config):
    """Say why tests are left out."""
    return config.stash.get(_LEFT_OUT, [])


@pytest.fixture
def standin_cupy(monkeypatch):
    """A function that puts a stand-in in CuPy's place, and returns its machine.

    ``machine = standin_cupy(devices=2, limit=10**6)``: see `standin.Machine` for the settings.
    """
    from standin import install

    from fastcheck.devices.cuda import gpu_device

    yield lambda **settings: install(monkeypatch, **settings)
    gpu_device.cache_clear()


@pytest.fixture
def host_module() -> type[Any]:
    """`HostModule`, which runs CUDA C on the CPU; `tests/cuda/host.py` says how."""
    from .cuda.host import HostModule, need_compiler

    need_compiler()
    return HostModule
