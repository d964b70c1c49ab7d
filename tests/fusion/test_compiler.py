"""The cache of compiled kernels: found again, and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastcheck.fusion import compiler
from fastcheck.fusion.compiler import cache_folder, compiled, is_compiled, seconds_to_compile
from fastcheck.fusion.source import Source

X = np.random.default_rng(8).normal(size=(21, 3))
W = np.array([0.3, -0.2, 0.5])
SCRIPT = """
import numpy as np
import fastcheck
from fastcheck.fusion import compiler

class Unwanted:
    def compile(self, text):
        raise AssertionError("compiled again")
    load = compiler._Machine.load

X, w = np.ones((21, 3)), np.array([0.3, -0.2, 0.5])
if {again}:
    compiler._Machine.compile = Unwanted.compile
grad = X.T @ (1 - np.tanh(X @ w) ** 2)
report = fastcheck.check(lambda p: np.sum(np.tanh(X @ p["w"])), {{"w": w}}, {{"w": grad}},
                         engine="fused")
print(report.verdict.value, report.tensors["w"].engine, compiler.notes)
"""


@pytest.fixture
def source(tools, cache: Path) -> Source:
    fused = tools.fused_of(lambda p: np.sum(np.tanh(X @ p["w"])), {"w": W}, "w")
    (kernel,) = fused.kernels()
    return kernel.source


# Machine code that is loaded stays so, as it does in a process that is not a test.
_STAYS: list[object] = []


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing be loaded yet, nor noted."""
    forget(monkeypatch)
    compiler.notes.clear()
    yield
    _STAYS.append(compiler._loaded)
    compiler.notes.clear()


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    _STAYS.append(compiler._loaded)
    monkeypatch.setattr(compiler, "_loaded", {})


def unwanted(*_: object) -> bytes:
    raise AssertionError("compiled again")


def only_file(cache: Path) -> Path:
    (file,) = cache.iterdir()
    return file


def run(cache: Path, again: bool) -> str:
    environment = {**os.environ, "FASTCHECK_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(again=again)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout.strip() + done.stderr[-500:]


def test_a_kernel_is_kept_in_the_chosen_folder(source: Source, cache: Path) -> None:
    assert cache_folder() == cache
    assert not cache.exists()
    compiled(source)
    assert only_file(cache).suffix == ".kernel"
    assert compiler.notes == []


def test_the_folder_is_the_user_s_own(source: Source, cache: Path) -> None:
    compiled(source)
    assert cache.stat().st_mode & 0o077 == 0


def test_nothing_but_kernels_is_left_in_the_folder(source: Source, cache: Path) -> None:
    compiled(source)
    assert [file.suffix for file in cache.iterdir()] == [".kernel"]


def test_without_a_choice_the_cache_is_in_the_user_s_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FASTCHECK_CACHE_DIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fastcheck"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "fastcheck"


def test_a_kernel_is_loaded_from_disk(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled(source)
    forget(monkeypatch)
    monkeypatch.setattr(compiler._Machine, "compile", unwanted)
    compiled(source)
    assert compiler.notes == []


def test_a_kernel_in_memory_is_not_read_again(source: Source, cache: Path) -> None:
    first = compiled(source)
    only_file(cache).unlink()
    assert compiled(source) is first


def test_a_second_process_finds_the_kernel(cache: Path) -> None:
    assert run(cache, again=False) == "pass fused []"
    assert run(cache, again=True) == "pass fused []"


DROPPED = """
import gc
from fastcheck.fusion import compiler

machine = compiler._machine()
text = "define void @differences(ptr %p) { ret void }"
for _ in range(3):
    loaded = machine.load(machine.compile(text))
    del loaded
    gc.collect()
print("alive")
"""


def test_a_kernel_may_be_dropped() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DROPPED], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "alive\n", done.stderr[-500:]


# -- what may be wrong with the cache --------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-100],
        lambda data: data[:10],
        lambda data: b"",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data.replace(b"fastcheck kernel ", b"fastcheck kernel 0", 1),
        lambda data: b"\x7fELF" + data,
    ],
    ids=["truncated", "only a beginning", "empty", "one bit", "another version", "foreign"],
)
def test_a_damaged_kernel_is_compiled_anew(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch, damage
) -> None:
    compiled(source)
    file = only_file(cache)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    forget(monkeypatch)
    compiled(source)
    assert compiler.notes == [f"a damaged kernel in {cache} was compiled anew"]
    assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_made_is_noted(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file")
    compiled(source)
    assert any(
        note.startswith(f"kernels cannot be kept in {cache} (")
        and note.endswith("); set FASTCHECK_CACHE_DIR")
        for note in compiler.notes
    )


def test_a_folder_that_is_read_only_is_noted_once(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Permissions do not bind root, which tests may run as.
    monkeypatch.setattr("fastcheck.fusion.compiler.tempfile.mkstemp", refuse)
    compiled(source)
    forget(monkeypatch)
    compiled(source)
    assert compiler.notes == [
        f"kernels cannot be kept in {cache} (Permission denied); set FASTCHECK_CACHE_DIR"
    ]


def test_a_kernel_that_cannot_be_read_is_noted(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled(source)
    file = only_file(cache)
    file.unlink()
    file.mkdir()
    forget(monkeypatch)
    compiled(source)
    assert compiler.notes[0] == f"the kernel cache in {cache} cannot be read (Is a directory)"


def test_a_write_that_fails_leaves_nothing_behind(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastcheck.fusion.compiler.os.replace", full)
    compiled(source)
    assert list(cache.iterdir()) == []
    assert compiler.notes == [
        f"kernels cannot be kept in {cache} (No space left on device); set FASTCHECK_CACHE_DIR"
    ]


def test_a_kernel_appears_only_whole(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    replace = os.replace

    def watched(old: str, new: Path) -> None:
        seen.append((new.exists(), Path(old).stat().st_size))
        replace(old, new)

    monkeypatch.setattr("fastcheck.fusion.compiler.os.replace", watched)
    compiled(source)
    assert seen == [(False, only_file(cache).stat().st_size)]


def test_the_oldest_kernels_are_removed(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    for age in range(5):
        file = cache / f"{age}.kernel"
        file.touch()
        os.utime(file, (1000 - age, 1000 - age))
    (cache / "other").touch()
    monkeypatch.setattr(compiler, "_KEPT", 3)
    compiled(source)
    names = {file.name for file in cache.iterdir()}
    assert {"0.kernel", "1.kernel", "other"} < names
    assert len(names) == 4


# -- what it costs ---------------------------------------------------------------------------------


def test_a_kernel_at_hand_costs_nothing(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_compiled(source)
    assert 0.001 < seconds_to_compile(source) < 1.0
    compiled(source)
    assert is_compiled(source)
    assert seconds_to_compile(source) == 0.0
    forget(monkeypatch)
    assert seconds_to_compile(source) == 0.0
    only_file(cache).unlink()
    assert seconds_to_compile(source) > 0.0


def test_lengths_of_loops_share_a_kernel(tools, cache: Path) -> None:
    def source_of(samples: int) -> Source:
        data = np.ones((samples, 3))
        fused = tools.fused_of(lambda p: np.sum(np.tanh(data @ p["w"])), {"w": W}, "w")
        return fused.kernels()[0].source

    assert source_of(21).text == source_of(1000).text


def test_code_that_is_not_well_formed_is_refused(cache: Path) -> None:
    """LLVM would abort the process when it comes to compiling it."""
    text = """define void @differences() {
      entry: br i1 true, label %here, label %there
      here: %x = fneg double 1.0
            ret void
      there: %y = fneg double %x
            ret void
    }"""
    with pytest.raises(RuntimeError, match="dominate"):
        compiler.compiled_text(text)
    assert not list(cache.glob("*"))
