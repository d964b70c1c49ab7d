"""The progress bar, on terminals and clocks made of Python."""

from __future__ import annotations

import io
import os

import pytest

from fastcheck.report import progress as module
from fastcheck.report.progress import Progress


class Terminal(io.StringIO):
    """A stream that says whether it is a terminal, and remembers what is on its line."""

    def __init__(self, tty: bool = True) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    @property
    def visible(self) -> str:
        """What a reader sees: carriage returns go back and write over."""
        line: list[str] = []
        for part in self.getvalue().split("\r"):
            line[: len(part)] = part
        return "".join(line).rstrip()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setattr(module.shutil, "get_terminal_size", lambda: os.terminal_size((100, 24)))


def test_a_long_run_on_a_terminal_shows_a_bar(clock):
    terminal = Terminal()
    bar = Progress(7960, "checking W1", terminal, clock=clock)
    clock.now += 2
    bar.advance(1990)
    assert terminal.visible == (
        "checking W1 ██████░░░░░░░░░░░░░░░░░░  25% · 1,990 of 7,960 · 6.00 s left"
    )


def test_nothing_is_written_in_the_first_second(clock):
    terminal = Terminal()
    with Progress(10, "checking", terminal, clock=clock) as bar:
        for _ in range(9):
            clock.now += 0.11
            bar.advance()
    assert terminal.getvalue() == ""


def test_nothing_is_written_to_a_file(clock):
    stream = Terminal(tty=False)
    with Progress(10, "checking", stream, clock=clock) as bar:
        clock.now += 60
        bar.advance(5)
    assert stream.getvalue() == ""


def test_enabled_draws_on_any_stream(clock):
    stream = Terminal(tty=False)
    bar = Progress(10, "checking", stream, True, clock=clock)
    clock.now += 60
    bar.advance(5)
    assert "50%" in stream.visible


def test_disabled_draws_nowhere(clock):
    terminal = Terminal()
    with Progress(10, "checking", terminal, False, clock=clock) as bar:
        clock.now += 60
        bar.advance(5)
    assert terminal.getvalue() == ""


def test_the_bar_erases_itself_at_the_end(clock):
    terminal = Terminal()
    with Progress(10, "checking", terminal, clock=clock) as bar:
        clock.now += 2
        bar.advance(5)
        assert terminal.visible
    assert terminal.visible == ""
    assert terminal.getvalue().endswith("\r")


def test_the_bar_erases_itself_when_interrupted(clock):
    terminal = Terminal()

    def interrupted() -> None:
        with Progress(10, "checking", terminal, clock=clock) as bar:
            clock.now += 2
            bar.advance(5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "50%" in terminal.getvalue()
    assert terminal.visible == ""


def test_advancing_after_the_end_draws_nothing(clock):
    terminal = Terminal()
    with Progress(10, "checking", terminal, clock=clock) as bar:
        pass
    clock.now += 5
    bar.advance(5)
    assert terminal.getvalue() == ""
    assert bar.done == 5


def test_a_shorter_line_leaves_nothing_of_a_longer_one(clock):
    terminal = Terminal()
    bar = Progress(10, "checking a very long name", terminal, clock=clock)
    clock.now += 2
    bar.advance()
    bar.label = "b"
    clock.now += 2
    bar.advance(9)
    assert terminal.visible == "b ████████████████████████ 100% · 10 of 10 · <1 ms left"


def test_it_draws_at_most_ten_times_a_second(clock):
    terminal = Terminal()
    bar = Progress(10**6, "checking", terminal, clock=clock)
    clock.now += 1
    for _ in range(1000):
        clock.now += 0.001
        bar.advance()
    assert 9 <= terminal.getvalue().count("\r") <= 11


def test_more_than_the_total_is_a_full_bar(clock):
    terminal = Terminal()
    bar = Progress(10, "checking", terminal, clock=clock)
    clock.now += 2
    bar.advance(25)
    assert " 100% · 25 of 10 · " in terminal.visible


def test_a_total_of_zero_is_a_full_bar(clock):
    terminal = Terminal()
    bar = Progress(0, "checking", terminal, clock=clock)
    clock.now += 2
    bar.advance(0)
    assert " 100% · 0 of 0 · " in terminal.visible


def test_without_any_progress_no_time_is_promised(clock):
    terminal = Terminal()
    bar = Progress(10, "checking", terminal, clock=clock)
    clock.now += 2
    bar.advance(0)
    assert terminal.visible.endswith("  0% · 0 of 10 · …")


def test_a_narrow_terminal_gets_a_narrow_line(clock, monkeypatch):
    monkeypatch.setattr(module.shutil, "get_terminal_size", lambda: os.terminal_size((30, 24)))
    terminal = Terminal()
    bar = Progress(10, "checking", terminal, clock=clock)
    clock.now += 2
    bar.advance(5)
    assert len(terminal.visible) == 29


def test_a_terminal_that_knows_only_ascii_gets_ascii(clock):
    class Ascii(Terminal):
        encoding = "ascii"

    terminal = Ascii()
    bar = Progress(10, "checking θ", terminal, clock=clock)
    clock.now += 2
    bar.advance(5)
    assert terminal.visible == "checking ? ############............  50% - 5 of 10 - 2.00 s left"


@pytest.mark.parametrize("error", [BrokenPipeError, ValueError])
def test_a_stream_that_breaks_silences_the_bar_and_not_the_work(clock, error):
    class Broken(Terminal):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            raise error

    terminal = Broken()
    with Progress(10, "checking", terminal, clock=clock) as bar:
        clock.now += 2
        for _ in range(5):
            clock.now += 1
            bar.advance()
    assert bar.done == 5
    assert terminal.writes == 1


def test_a_closed_stream_is_no_terminal(clock):
    terminal = io.StringIO()
    terminal.close()
    with Progress(10, "checking", terminal, clock=clock) as bar:
        clock.now += 2
        bar.advance()


def test_a_process_without_standard_error_has_no_bar(clock, monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    with Progress(10, "checking", clock=clock) as bar:
        clock.now += 2
        bar.advance()
    assert bar.done == 1


def test_the_bar_goes_to_standard_error(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = Progress(10, "checking", clock=clock)
    clock.now += 2
    bar.advance(5)
    assert terminal.visible.startswith("checking ")
