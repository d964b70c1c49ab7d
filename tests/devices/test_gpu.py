import sys
from types import ModuleType, SimpleNamespace

import pytest

from fastcheck.devices import gpu, resolve_devices
from fastcheck.errors import InputError


class Runtime:
    """CuPy's runtime module with a driver and devices of the test's choosing."""

    def __init__(self, driver=13000, runtime=12090, devices=1, error=None):
        self.driver, self.runtime, self.devices, self.error = driver, runtime, devices, error
        self.current = 0

    def driverGetVersion(self):
        return self.driver

    def runtimeGetVersion(self):
        return self.runtime

    def getDeviceCount(self):
        if self.error:
            raise self.error
        return self.devices

    def getDevice(self):
        return self.current

    def setDevice(self, number):
        self.current = number

    def getDeviceProperties(self, number):
        return {"name": f"Card {number}".encode(), "major": 9, "minor": 0}

    def memGetInfo(self):
        return 2 * 2**30, 8 * 2**30


@pytest.fixture
def install(monkeypatch):
    """Put a made-up CuPy in place of the real one."""

    def put(runtime):
        cupy = ModuleType("cupy")
        cupy.__version__ = "14.2.0"
        cupy.cuda = SimpleNamespace(runtime=runtime)
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        return runtime

    return put


@pytest.fixture
def broken(monkeypatch):
    """Let the import of CuPy raise."""

    def put(error):
        def raise_it(name):
            raise error

        monkeypatch.setattr(gpu.importlib, "import_module", raise_it)

    return put


def test_without_cupy_the_packages_to_install_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # Python then raises ModuleNotFoundError
    missing = gpu.gpu_status().missing
    assert missing.startswith("CuPy is not installed: `pip install 'cupy-cuda12x[ctk]'`")
    assert "cupy-cuda13x" in missing


def test_a_cupy_that_cannot_be_imported_says_why(broken):
    broken(ImportError("\n=====\nlibcublas.so.12: cannot open shared object file\nmore"))
    assert gpu.gpu_status().missing.startswith(
        "CuPy is installed but cannot be imported "
        "(ImportError: libcublas.so.12: cannot open shared object file): reinstall it"
    )


def test_a_cupy_that_lacks_a_module_of_its_own_is_not_called_missing(broken):
    broken(ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock"))
    assert "cannot be imported" in gpu.gpu_status().missing


def test_cupy_without_a_driver_is_said(install):
    install(Runtime(driver=0))
    assert "there is no NVIDIA driver" in gpu.gpu_status().missing


def test_a_driver_that_is_too_old_is_said_with_both_versions(install):
    install(Runtime(driver=12040, runtime=13000, error=RuntimeError("cudaErrorInsufficientDriver")))
    assert gpu.gpu_status().missing == (
        "The NVIDIA driver is too old: it supports CUDA 12.4, and CuPy needs CUDA 13.0. Update the "
        "driver, or install the CuPy of CUDA 12 (`pip install 'cupy-cuda12x[ctk]'`)."
    )


@pytest.mark.parametrize("error", [None, RuntimeError("cudaErrorNoDevice: no CUDA-capable device")])
def test_a_driver_without_a_visible_device_is_said(install, error):
    install(Runtime(devices=0, error=error))
    assert "no CUDA device is visible" in gpu.gpu_status().missing


def test_any_other_failure_is_reported_and_not_raised(install):
    install(Runtime(error=RuntimeError("cudaErrorUnknown: unknown error")))
    assert gpu.gpu_status().missing == (
        "CuPy is installed, but asking it for devices failed: "
        "RuntimeError: cudaErrorUnknown: unknown error."
    )


def test_every_device_is_listed_and_the_current_one_kept(install):
    runtime = install(Runtime(devices=2))
    runtime.current = 1
    status = gpu.gpu_status()
    assert [device.name for device in status.devices] == ["Card 0", "Card 1"]
    assert status.devices[0] == gpu.Gpu("Card 0", "9.0", 2 * 2**30, 8 * 2**30)
    assert status.missing == ""
    assert runtime.current == 1


def test_asking_for_the_gpu_says_what_is_missing(broken):
    broken(ModuleNotFoundError("No module named 'cupy'", name="cupy"))
    with pytest.raises(InputError, match="`device` is 'gpu', but: CuPy is not installed: `pip"):
        resolve_devices("gpu")


def test_a_device_that_is_not_there_is_refused(install):
    install(Runtime(devices=2))
    with pytest.raises(InputError, match="there is no CUDA device 2, 5: there are 2, counted"):
        resolve_devices("gpu:1,2,5")


def test_a_device_is_named_once(install):
    install(Runtime(devices=2))
    with pytest.raises(InputError, match="names a device twice"):
        resolve_devices("gpu:1,1")


def test_a_missing_compiler_is_named(install):
    def missing():
        raise RuntimeError('Failure finding "libnvrtc.so.13"')

    install(Runtime())
    sys.modules["cupy"].cuda.nvrtc = SimpleNamespace(getVersion=missing)
    status = gpu.gpu_status()
    assert status.devices == ()
    assert "NVRTC is missing (RuntimeError: Failure finding" in status.missing
    assert "`pip install 'cupy-cuda13x[ctk]'`" in status.missing


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_auto_begins_with_the_cpu(name):
    assert [device.name for device in resolve_devices(name)] == ["cpu"]


@pytest.mark.parametrize("name", ["tpu", "gpu:", "gpu:x", "gpu:0,", "GPU", 0, None])
def test_an_unknown_device_is_refused_with_the_known_ones(name):
    with pytest.raises(InputError, match='use "auto", "cpu", "gpu", or "gpu:0,1" for several'):
        resolve_devices(name)
