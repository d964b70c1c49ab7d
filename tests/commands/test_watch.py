"""Watching a file of records: once, on a pipe, and in a terminal while another program appends."""

import fcntl
import math
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace

import pytest

from fastcheck.cli import main
from fastcheck.monitor.jsonl import JsonLines, line_of
from fastcheck.monitor.record import Record
from fastcheck.monitor.screen import line, page
from fastcheck.report.data import Verdict
from fastcheck.report.layout import columns
from fastcheck.report.paint import Paint

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
PLAIN = Paint(colour=False)


def record(step=0, verdict=PASS, **values):
    plain = {
        "mode": "full",
        "loss": 2.5,
        "relative_difference": 0.5 if verdict is FAIL else 3e-9,
        "error_bar": 8e-9,
        "smallest_gradient": 1e-7,
        "largest_gradient": 0.1,
        "tensors": {"W1": verdict, "b1": PASS},
        "compared": 7960,
        "seconds": 0.05,
        "training_seconds": 1.5,
        "share": 0.031,
        "notes": ("W1 is twice too large.",) if verdict is FAIL else (),
    }
    return Record(step=step, verdict=verdict, **{**plain, **values})


def broken(at=50, count=100):
    return [record(10 * n, FAIL if n >= at else PASS) for n in range(count)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


def write(path, records):
    with JsonLines(path) as lines:
        for one in records:
            lines.write(one)


class TestOnce:
    @pytest.mark.parametrize(("verdict", "status"), [(PASS, 0), (FAIL, 1), (INCONCLUSIVE, 3)])
    def test_the_status_is_the_last_verdict(self, capsys, path, verdict, status):
        write(path, [record(0, FAIL), record(1, PASS), record(2, verdict)])
        assert main(["watch", str(path), "--once"]) == status
        lines = capsys.readouterr().out.splitlines()
        assert [text.split(" | ")[:2] for text in lines] == [
            ["step 0", "FAIL"],
            ["step 1", "PASS"],
            ["step 2", verdict.name],
        ]

    def test_a_line_says_all_that_the_record_says(self, capsys, path):
        write(path, [record(1500, FAIL)])
        main(["watch", str(path), "--once"])
        assert capsys.readouterr().out == (
            "step 1,500 | FAIL | loss 2.50 | relative difference 0.500 | error bar 8.0e-9 | "
            "gradient 1.0e-7 to 0.100 | 50 ms | 3.1% of the training's time | fails in W1 | "
            "W1 is twice too large.\n"
        )

    def test_a_last_line_that_was_cut_short_is_left_out(self, capsys, path):
        write(path, [record(0)])
        with path.open("ab") as file:
            file.write(line_of(record(1, FAIL))[:90])
        assert main(["watch", str(path), "--once"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "cannot be read (No such file or directory)"),
            (b"", "holds no record yet"),
            (b"a,b\n1,2\n", "line 1 of"),
        ],
    )
    def test_what_cannot_be_shown_ends_with_2(self, capsys, path, content, message):
        if content is not None:
            path.write_bytes(content)
        assert main(["watch", str(path), "--once"]) == 2
        assert message in capsys.readouterr().err

    def test_a_folder_ends_with_2(self, capsys, tmp_path):
        assert main(["watch", str(tmp_path)]) == 2
        assert "is a folder; give the file in it" in capsys.readouterr().err

    @pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf", "soon", "1e9"])
    def test_an_impossible_interval_ends_with_2(self, capsys, path, interval):
        with pytest.raises(SystemExit) as ended:
            main(["watch", str(path), f"--interval={interval}"])
        assert ended.value.code == 2
        assert "is not a time" in capsys.readouterr().err

    def test_an_escape_sequence_in_a_name_is_not_obeyed(self, capsys, path):
        write(path, [record(0, FAIL, tensors={"\x1b[2Jevil\n": FAIL}, notes=("a\nb\x07",))])
        main(["watch", str(path), "--once"])
        out = capsys.readouterr().out
        assert len(out.splitlines()) == 1
        assert "\x1b" not in out
        assert "\x07" not in out


SIZES = [(100, 40), (79, 23), (60, 12), (40, 8), (20, 5), (9, 3), (200, 100)]


class TestPage:
    @pytest.mark.parametrize(("width", "height"), SIZES)
    @pytest.mark.parametrize("count", [1, 2, 60, 500])
    def test_it_fits_every_screen(self, width, height, count):
        nasty = [
            replace(one, loss=math.nan, relative_difference=math.inf, share=math.nan)
            if n % 7 == 3
            else replace(one, tensors={"层" * 30 + str(n): FAIL}, smallest_gradient=0.0)
            for n, one in enumerate(broken(count // 2, count))
        ]
        lines = page(nasty, width, height, PLAIN)
        assert len(lines) <= height
        assert all(columns(text) <= max(width, 20) for text in lines)

    def test_colours_change_no_character(self):
        coloured = page(broken(), 100, 30, Paint(colour=True))
        assert [re.sub(r"\x1b\[[\d;]*m", "", text) for text in coloured] == (
            page(broken(), 100, 30, PLAIN)
        )
        assert any("\x1b[1;31m" in text for text in coloured)

    def test_it_leads_with_the_answer_and_ends_with_the_last_check(self):
        lines = page(broken(), 100, 30, PLAIN)
        assert lines[0].startswith("FAIL from step 500 on (right at step 490), in W1: W1 is twice")
        assert lines[-1].split() == (
            "990 FAIL 0.500 8.0e-9 2.50 1.0e-7 0.100 50 ms 3.1% W1".split()
        )

    def curve(self, records, label):
        (found,) = [text for text in page(records, 100, 30, PLAIN) if text.startswith(label)]
        return found[len(label) :].split()[0]

    def test_a_curve_rises_and_falls_with_its_values(self):
        rising = [record(n, relative_difference=10.0 ** (n - 12)) for n in range(8)]
        assert self.curve(rising, "relative difference") == "▁▂▃▄▅▆▇█"
        falling = [record(n, loss=8.0 - n) for n in range(8)]
        assert self.curve(falling, "loss") == "█▇▆▅▄▃▂▁"

    def test_difference_and_error_bar_have_one_scale(self):
        records = [record(n, relative_difference=1e-9, error_bar=1e-5) for n in range(3)]
        assert self.curve(records, "relative difference") == "▁▁▁"
        assert self.curve(records, "error bar") == "███"

    def test_one_bad_check_among_thousands_shows(self):
        records = [record(n, FAIL if n == 1234 else PASS) for n in range(3000)]
        assert self.curve(records, "verdict").count("X") == 1
        assert self.curve(records, "relative difference").count("█") == 1
        records = [record(n, loss=math.nan if n == 1234 else 1.0) for n in range(3000)]
        assert self.curve(records, "loss").count("×") == 1

    def test_a_line_has_no_line_break(self):
        assert "\n" not in line(record(0, FAIL, notes=("a\nb",)))


def start(path, *options, **where):
    command = [
        sys.executable,
        "-m",
        "fastcheck",
        "watch",
        str(path),
        "--interval",
        "0.02",
        *options,
    ]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "utf-8"}
    environ.pop("COLUMNS", None)
    environ.pop("LINES", None)
    return subprocess.Popen(command, env={**environ, "TERM": "xterm"}, **where)


def until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


class TestPipe:
    @pytest.fixture
    def watching(self, path, tmp_path):
        """Start the command with its output in a file; give the process and what it has said."""
        out, err = (tmp_path / "out").open("wb"), (tmp_path / "err").open("wb")
        process = start(path, stdout=out, stderr=err)
        yield process, (tmp_path / "out").read_text, (tmp_path / "err").read_text
        process.kill()
        process.wait()
        out.close()
        err.close()

    def test_it_waits_for_the_file_follows_it_and_ends_with_0(self, path, watching):
        process, out, err = watching
        until(lambda: "waiting for" in err())
        with JsonLines(path) as lines:
            lines.write(record(0))
            until(lambda: out().count("\n") == 1)
            lines.write(record(1, FAIL))
            until(lambda: out().count("\n") == 2)
        with path.open("ab") as file:
            file.write(line_of(record(2))[:50])
            file.flush()
            time.sleep(0.1)
            assert out().count("\n") == 2
            file.write(line_of(record(2))[50:])
        until(lambda: out().count("\n") == 3)
        path.rename(path.with_suffix(".1"))
        write(path, [record(3)])
        until(lambda: out().count("\n") == 4)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert [text.split(" | ")[0] for text in out().splitlines()] == [
            f"step {n}" for n in range(4)
        ]
        assert "\x1b" not in out()
        assert err() == f"fastcheck: waiting for {path}; Ctrl-C ends.\n"


class Screen:
    """As much of a terminal as the command uses; it fails on anything else."""

    def __init__(self, width, height, stale=False):
        self.width, self.height = width, height
        self.stale = stale  # what comes was written for another size until the screen is cleared
        self.cells = [[" "] * width for _ in range(height)]
        self.row = self.column = 0
        self.scrolled = []

    def feed(self, text):
        if self.stale:
            _, clear, text = text.partition("\x1b[2J")
            self.stale = not clear
        for sequence, count, kind, character in re.findall(
            r"(\x1b\[([\d;]*)([A-Za-z]))|([\s\S])", text
        ):
            if sequence:
                self.obey(count, kind)
            elif character == "\r":
                self.column = 0
            elif character == "\n":
                self.down()
            else:
                assert character.isprintable()
                assert self.column < self.width, "a line is wider than the terminal"
                self.cells[self.row][self.column] = character
                self.column += 1

    def obey(self, count, kind):
        blank = [" "] * self.width
        if kind == "A":
            assert int(count) <= self.row, "the page is higher than the terminal"
            self.row -= int(count)
        elif kind == "K":
            self.cells[self.row][self.column :] = blank[self.column :]
        elif kind == "J":
            first = 0 if count == "2" else self.row + 1
            self.cells[self.row][self.column :] = blank[self.column :]
            self.cells[first:] = [list(blank) for _ in self.cells[first:]]
        elif kind == "H":
            self.row = self.column = 0
        else:
            assert kind == "m"

    def down(self):
        if self.row < self.height - 1:
            self.row += 1
        else:
            self.scrolled.append("".join(self.cells.pop(0)).rstrip())
            self.cells.append([" "] * self.width)

    @property
    def lines(self):
        return ["".join(row).rstrip() for row in self.cells]


class TestTerminal:
    @pytest.fixture
    def watching(self, path):
        """Start the command in a terminal of its own; give it, its screen and a way to wait."""
        master, slave = pty.openpty()

        def resize(width, height):
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

        def session():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        resize(100, 24)
        screen = Screen(100, 24)
        streams = {"stdin": slave, "stdout": slave, "stderr": slave}
        process = start(path, **streams, preexec_fn=session)
        os.close(slave)
        rest = b""

        def shows(text, seconds=20):
            nonlocal rest
            last = time.monotonic() + seconds
            while not any(text in one for one in screen.lines):
                assert time.monotonic() < last, (text, screen.lines)
                if select.select([master], [], [], 0.1)[0]:
                    try:
                        rest += os.read(master, 65536)
                    except OSError:  # the other end is closed
                        continue
                    frames, end, rest = rest.rpartition(b"\x1b[J")  # which ends every page
                    screen.feed((frames + end).decode())

        yield process, screen, shows, resize, lambda text: os.write(master, text)
        process.kill()
        process.wait()
        os.close(master)

    def test_the_page_is_redrawn_as_another_program_appends(self, path, watching):
        process, screen, shows, _, press = watching
        shows(f"Waiting for {path}"[:80])
        with JsonLines(path) as lines:
            lines.write(record(0))
            shows("The gradient is right at the one check, step 0")
            for n in range(1, 60):
                lines.write(record(10 * n, FAIL if n >= 50 else PASS))
            shows("FAIL from step 500 on (right at step 490), in W1: W1 is twice too large.")
            shows(" 590     FAIL")
        assert screen.lines[0].startswith("FAIL from step 500 on")
        assert screen.scrolled == []
        assert sum(text.startswith("verdict") for text in screen.lines) == 1
        press(b"\x03")
        assert process.wait(10) == 0

    def test_it_survives_rotation_and_a_line_that_is_cut_short(self, path, watching):
        _, screen, shows, _, _ = watching
        write(path, [record(n, FAIL) for n in range(12)])
        shows("FAIL at all 12 checks")
        path.rename(path.with_suffix(".1"))
        shows(f"Waiting for {path}"[:80])
        path.write_bytes(line_of(record(0)) + line_of(record(1, FAIL))[:70])
        shows("The gradient is right at the one check, step 0")
        assert not any("FAIL" in text for text in screen.lines)
        write(path, [record(1)])
        shows("The gradient is right at all 2 checks")

    def test_a_smaller_terminal_gets_a_smaller_page(self, path, watching):
        _, screen, shows, resize, _ = watching
        write(path, broken())
        shows("FAIL from step 500 on")
        screen.__init__(50, 12, stale=True)
        resize(50, 12)
        shows("Last written")
        assert screen.lines[0].startswith("FAIL from step 500 on")

    def test_once_shows_the_page_and_ends(self, path):
        write(path, broken())
        master, slave = pty.openpty()
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        process = start(path, "--once", stdin=slave, stdout=slave)
        os.close(slave)
        text = b""
        while True:
            try:
                text += os.read(master, 65536)
            except OSError:
                break
        os.close(master)
        assert process.wait(10) == 1
        assert "FAIL from step 500 on" in text.decode()
        assert "▁" in text.decode()

    def test_a_terminal_without_blocks_gets_ascii(self, path):
        write(path, broken())
        master, slave = pty.openpty()
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
        environ["PYTHONIOENCODING"] = "ascii"
        command = [sys.executable, "-m", "fastcheck", "watch", str(path), "--once"]
        process = subprocess.Popen(command, env=environ, stdin=slave, stdout=slave)
        os.close(slave)
        text = b""
        while True:
            try:
                text += os.read(master, 65536)
            except OSError:
                break
        os.close(master)
        assert process.wait(10) == 1
        assert "FAIL from step 500 on" in text.decode("ascii")
        assert "?" not in text.decode("ascii")
