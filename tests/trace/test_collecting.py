"""The garbage collector is paused for a while, and is afterwards what it was."""

from __future__ import annotations

import gc
import threading

import pytest

from fastcheck.trace.collecting import without_collecting


@pytest.fixture(autouse=True)
def _as_before():
    was = gc.isenabled()
    yield
    (gc.enable if was else gc.disable)()


@without_collecting()
def _fails():
    raise KeyError


@pytest.mark.parametrize("was", [True, False])
def test_it_comes_back_as_it_was(was):
    (gc.enable if was else gc.disable)()
    with without_collecting():
        with without_collecting():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled() is was
    with pytest.raises(KeyError):
        _fails()
    assert gc.isenabled() is was


def test_pauses_in_two_threads_may_overlap():
    gc.enable()
    inside, leave = threading.Event(), threading.Event()

    def other():
        with without_collecting():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with without_collecting():
        thread.start()
        assert inside.wait(10)
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()
