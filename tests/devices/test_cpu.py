import numpy as np
import pytest

from fastcheck.devices import cpu


@pytest.fixture
def groups(tmp_path):
    """A cgroup file system to be filled, and the membership file that points into it."""

    def make(membership, files):
        (tmp_path / "self").write_text(membership)
        for name, text in files.items():
            file = tmp_path / "fs" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return cpu.cgroup_headroom(tmp_path / "self", tmp_path / "fs")

    return make


def test_the_limit_of_a_version_2_group_counts(groups):
    files = {"job/memory.max": "1000\n", "job/memory.current": "400\n"}
    assert groups("0::/job\n", files) == 600


def test_the_limit_of_a_version_1_group_counts(groups):
    files = {
        "memory/job/memory.limit_in_bytes": "1000\n",
        "memory/job/memory.usage_in_bytes": "400\n",
    }
    assert groups("5:cpu,cpuacct:/\n4:memory:/job\n", files) == 600


def test_the_tightest_ancestor_decides(groups):
    files = {
        "a/b/memory.max": "max\n",
        "a/b/memory.current": "10\n",
        "a/memory.max": "500\n",
        "a/memory.current": "100\n",
        "memory.max": "9000\n",
        "memory.current": "0\n",
    }
    assert groups("0::/a/b\n", files) == 400


def test_the_page_cache_counts_as_free(groups):
    files = {
        "memory.max": "1000\n",
        "memory.current": "900\n",
        "memory.stat": "anon 500\ninactive_file 300\n",
    }
    assert groups("0::/\n", files) == 400


def test_a_group_beyond_its_limit_has_nothing_left(groups):
    assert groups("0::/\n", {"memory.max": "10\n", "memory.current": "20\n"}) == 0


@pytest.mark.parametrize("membership", ["", "0::/\n", "garbage\n"])
def test_without_a_readable_limit_there_is_none(groups, membership):
    assert groups(membership, {"memory.max": "max\n", "memory.current": "20\n"}) is None


def test_the_smaller_of_machine_and_group_is_free(monkeypatch):
    monkeypatch.setattr(cpu, "_free_in_machine", lambda: 5000)
    monkeypatch.setattr(cpu, "cgroup_headroom", lambda: 700)
    assert cpu.free_memory() == 700


def test_a_system_that_tells_nothing_gets_a_guess(monkeypatch):
    monkeypatch.setattr(cpu, "_free_in_machine", lambda: None)
    monkeypatch.setattr(cpu, "cgroup_headroom", lambda: None)
    assert cpu.free_memory() == 2 * 2**30


def test_without_proc_the_system_is_asked_for_its_pages(monkeypatch, tmp_path):
    monkeypatch.setattr(cpu, "_MEMINFO", tmp_path / "missing")
    assert cpu._free_in_machine() > 2**20


def test_the_device_keeps_numpy_arrays_as_they_are():
    device = cpu.cpu_device()
    array = np.arange(3.0)
    assert device.xp is np
    assert device.asarray(array) is array
    assert device.to_host(array) is array
    assert device.free_memory() > 2**20


def test_the_machine_can_be_described():
    assert cpu.usable_cores() >= 1
    assert cpu.cpu_model()
