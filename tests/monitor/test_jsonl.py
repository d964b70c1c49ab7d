"""Records as lines of JSON: what is written comes back, and a killed run loses one line at most."""

import dataclasses
import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fastcheck.errors import InputError
from fastcheck.monitor.follow import Follower
from fastcheck.monitor.jsonl import JsonLines, line_of, read_jsonl
from fastcheck.monitor.record import Record
from fastcheck.report.data import Verdict


def record(step=0, verdict=Verdict.PASS, **values):
    plain = {
        "step": step,
        "verdict": verdict,
        "mode": "full",
        "loss": 2.5,
        "relative_difference": 3e-9,
        "error_bar": 8e-9,
        "smallest_gradient": 1e-7,
        "largest_gradient": 0.1,
        "tensors": {"W1": verdict, "b1": Verdict.PASS},
        "compared": 7960,
        "seconds": 0.05,
        "training_seconds": 1.5,
        "share": 0.03,
        "notes": ("one", "two"),
    }
    return Record(**{**plain, **values})


def write(path, records):
    with JsonLines(path) as lines:
        for one in records:
            lines.write(one)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


class TestRoundTrip:
    def test_every_field_comes_back(self, path):
        records = [record(n, list(Verdict)[n % 3], loss=0.1 * n) for n in range(4)]
        write(path, records)
        assert read_jsonl(path) == records

    def test_every_field_is_written(self, path):
        write(path, [record()])
        names = {field.name for field in dataclasses.fields(Record)}
        assert set(json.loads(path.read_text())) == {"schema", *names}

    def test_what_json_lacks_is_written_as_strings(self, path):
        odd = record(loss=math.nan, relative_difference=math.inf, error_bar=-math.inf)
        write(path, [odd])
        data = json.loads(path.read_text(), parse_constant=pytest.fail)
        assert [data["loss"], data["relative_difference"], data["error_bar"]] == [
            "nan",
            "inf",
            "-inf",
        ]
        (back,) = read_jsonl(path)
        assert math.isnan(back.loss)
        assert (back.relative_difference, back.error_bar) == (math.inf, -math.inf)

    def test_numpy_numbers_become_python_numbers(self, path):
        write(path, [record(step=np.int64(7), loss=np.float32(0.5), compared=np.int32(3))])
        (back,) = read_jsonl(path)
        assert [type(value) for value in (back.step, back.loss, back.compared)] == [
            int,
            float,
            int,
        ]

    def test_a_float_keeps_all_its_digits(self, path):
        write(path, [record(loss=0.1 + 0.2, smallest_gradient=5e-324)])
        (back,) = read_jsonl(path)
        assert (back.loss, back.smallest_gradient) == (0.1 + 0.2, 5e-324)

    def test_line_breaks_and_any_script_in_names_and_notes(self, path):
        odd = record(tensors={"层\n1\u2028\r": Verdict.FAIL}, notes=("a\nb", "θ\udc80\x00"))
        write(path, [odd, record(1)])
        assert path.read_bytes().count(b"\n") == 2
        assert read_jsonl(path) == [odd, record(1)]
        follower = Follower(path)
        assert follower.look() == [odd, record(1)]

    def test_a_record_is_there_before_the_file_is_closed(self, path):
        lines = JsonLines(path)
        lines.write(record())
        assert read_jsonl(path) == [record()]
        lines.close()

    def test_a_file_is_appended_to(self, path):
        write(path, [record(0)])
        write(path, [record(1)])
        assert [one.step for one in read_jsonl(path)] == [0, 1]


class TestReading:
    def test_unknown_fields_are_ignored(self, path):
        data = {**json.loads(line_of(record())), "colour": "blue"}
        path.write_text(json.dumps(data) + "\n")
        assert read_jsonl(path) == [record()]

    def test_a_field_that_has_a_default_may_be_absent(self, path):
        data = json.loads(line_of(record()))
        del data["notes"]
        path.write_text(json.dumps(data) + "\n")
        assert read_jsonl(path) == [record(notes=())]

    def test_blank_lines_and_windows_line_breaks_are_nothing(self, path):
        path.write_bytes(b"\n" + line_of(record()).replace(b"\n", b"\r\n") + b"\r\n\n")
        assert read_jsonl(path) == [record()]

    def test_an_empty_file_holds_no_records(self, path):
        path.touch()
        assert read_jsonl(path) == []

    @pytest.mark.parametrize("kept", [1, 12, 60, -1])
    def test_a_last_line_that_was_cut_short_is_ignored(self, path, kept):
        path.write_bytes(line_of(record(0)) + line_of(record(1))[:kept].rstrip(b"}\n"))
        assert read_jsonl(path) == [record(0)]

    def test_a_whole_last_line_without_its_line_break_counts(self, path):
        path.write_bytes(line_of(record(0)) + line_of(record(1)).rstrip())
        assert read_jsonl(path) == [record(0), record(1)]

    def test_a_last_line_of_zeros_as_a_power_cut_leaves_is_ignored(self, path):
        path.write_bytes(line_of(record(0)) + b"\0" * 300)
        assert read_jsonl(path) == [record(0)]

    def test_a_broken_line_before_the_last_is_named(self, path):
        path.write_bytes(line_of(record(0)) + b'{"schema": 1, "st\n' + line_of(record(2)))
        with pytest.raises(InputError, match=rf"line 2 of {re.escape(str(path))} is not JSON"):
            read_jsonl(path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"schema": 2}, "line 1 of .* has schema 2, and this fastcheck reads schema 1"),
            ({"verdict": "maybe"}, "line 1 of .* has verdict = 'maybe'"),
            ({"loss": "0.5"}, "line 1 of .* has loss = '0.5'"),
            ({"loss": None}, "line 1 of .* has loss = None"),
            ({"loss": True}, "line 1 of .* has loss = True"),
            ({"loss": 10**400}, "line 1 of .* has loss = 10000"),
            ({"step": 1.5}, "line 1 of .* has step = 1.5"),
            ({"tensors": ["W1"]}, "line 1 of .* has tensors = "),
            ({"tensors": {"W1": "fine"}}, "line 1 of .* has tensors = "),
            ({"notes": "one"}, "line 1 of .* has notes = 'one'"),
            ({"notes": [1]}, "line 1 of .* has notes = "),
        ],
    )
    def test_a_field_that_holds_something_impossible_is_named(self, path, change, message):
        path.write_text(json.dumps({**json.loads(line_of(record())), **change}) + "\n")
        with pytest.raises(InputError, match=message):
            read_jsonl(path)

    def test_all_missing_fields_are_named(self, path):
        path.write_text('{"schema": 1, "step": 3}\n')
        with pytest.raises(InputError, match=r"line 1 of .* lacks verdict, mode, loss"):
            read_jsonl(path)

    @pytest.mark.parametrize("text", ["3\n", "[1]\n", '{"step": 3}\n'])
    def test_json_that_is_no_record_is_refused(self, path, text):
        path.write_text(text)
        with pytest.raises(InputError, match=r"line 1 of .* is not the record of a check"):
            read_jsonl(path)

    def test_a_file_that_is_not_there_is_named(self, path):
        with pytest.raises(InputError, match=r"run\.jsonl cannot be read \(No such file"):
            read_jsonl(path)


class TestOpening:
    @pytest.mark.parametrize("cut", [1, 12, 60])
    def test_what_a_killed_run_left_of_a_line_is_removed(self, path, cut):
        path.write_bytes(line_of(record(0)) + line_of(record(1))[:cut])
        write(path, [record(2)])
        assert path.read_bytes() == line_of(record(0)) + line_of(record(2))

    def test_a_first_line_that_was_cut_short_is_removed(self, path):
        path.write_bytes(line_of(record(0))[:30])
        write(path, [record(2)])
        assert read_jsonl(path) == [record(2)]

    def test_a_whole_line_that_lacks_its_line_break_is_kept(self, path):
        path.write_bytes(line_of(record(0)).rstrip(b"\n"))
        write(path, [record(1)])
        assert read_jsonl(path) == [record(0), record(1)]

    def test_a_long_line_that_was_cut_short_is_removed_whole(self, path):
        long = line_of(record(1, notes=("x" * 200_000,)))
        path.write_bytes(line_of(record(0)) + long[:-2])
        write(path, [record(2)])
        assert read_jsonl(path) == [record(0), record(2)]

    def test_a_line_that_another_run_is_writing_is_left_to_it(self, path, monkeypatch):
        line = line_of(record(1))
        path.write_bytes(line_of(record(0)) + line[:20])
        pieces = [line[20:50], line[50:]]

        def other_run(seconds):
            with path.open("ab") as file:
                file.write(pieces.pop(0))

        monkeypatch.setattr("fastcheck.monitor.jsonl.time.sleep", other_run)
        write(path, [record(2)])
        assert [one.step for one in read_jsonl(path)] == [0, 1, 2]

    @pytest.mark.parametrize("text", ["a,b\n1,2", "notes of mine\n", '{"a": 1}\n'])
    def test_a_file_of_something_else_is_refused_and_left_alone(self, path, text):
        path.write_text(text)
        with pytest.raises(InputError, match="exists and holds no records of a monitor"):
            JsonLines(path)
        assert path.read_text() == text

    def test_a_folder_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"there is no folder .*runs; create it first"):
            JsonLines(tmp_path / "runs" / "a.jsonl")

    def test_a_folder_is_no_file(self, tmp_path):
        with pytest.raises(InputError, match="cannot be written"):
            JsonLines(tmp_path)

    def test_a_device_can_be_written_to(self):
        write("/dev/null", [record()])

    def test_after_closing_nothing_is_written(self, path):
        lines = JsonLines(path)
        lines.close()
        lines.close()
        with pytest.raises(InputError, match="was closed"):
            lines.write(record())


WRITER = """
import sys, time
from dataclasses import replace
from fastcheck.monitor.jsonl import JsonLines, record_of

pattern = record_of(sys.argv[2].encode(), "the pattern")
step, by = int(sys.argv[3]), int(sys.argv[4])
with JsonLines(sys.argv[1]) as lines:
    while True:
        lines.write(replace(pattern, step=step))
        step += by
        time.sleep(0.0005)
"""
LONG = record(notes=("x" * 20_000,))


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def writer():
    """Start processes that append long records to a file until they are killed."""
    started = []

    def start(path, first=0, by=1):
        arguments = [str(path), line_of(LONG).decode(), str(first), str(by)]
        command = [sys.executable, "-c", WRITER, *arguments]
        started.append(subprocess.Popen(command, env=environment()))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(path, size, process):
    end = time.monotonic() + 30
    while not path.exists() or path.stat().st_size < size:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)


class TestKilling:
    def test_a_killed_run_loses_no_whole_line_and_the_next_goes_on(self, path, writer):
        written = 0
        for _ in range(4):
            process = writer(path, first=written)
            wait_for(path, (path.stat().st_size if path.exists() else 0) + 500_000, process)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            steps = [one.step for one in read_jsonl(path)]
            assert steps == list(range(len(steps)))
            assert len(steps) > written
            # What could not be read is less than a line.
            assert path.stat().st_size < (len(steps) + 1) * (len(line_of(LONG)) + 10)
            written = len(steps)

    def test_a_run_killed_within_a_line_loses_that_line_only(self, path):
        """The system ends the process in the middle of its write: at a limit on the file's size."""
        line = line_of(record())
        limit = 3 * len(line) + len(line) // 2
        script = (
            "import resource, sys; from fastcheck.monitor.jsonl import JsonLines, read_jsonl\n"
            "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
            f"(one,) = read_jsonl({str(path)!r})\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
            f"lines = JsonLines({str(path)!r})\n"
            "while True: lines.write(one)\n"
        )
        path.write_bytes(line)
        command = [sys.executable, "-c", script]
        ended = subprocess.run(command, env=environment(), check=False)
        assert ended.returncode == -signal.SIGXFSZ
        assert path.stat().st_size == limit
        assert read_jsonl(path) == [record()] * 3
        write(path, [record(9)])
        assert read_jsonl(path) == [*[record()] * 3, record(9)]

    def test_a_full_disk_leaves_no_half_line(self, path):
        """At the limit, with the signal off, writing half a line works and the rest fails."""
        line = line_of(record())
        write(path, [record()])
        lines = JsonLines(path)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(line) * 3 // 2, before[1]))
        try:
            with pytest.raises(InputError, match=r"cannot be written \(File too large\)"):
                lines.write(record(1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert path.read_bytes() == line
        lines.write(record(2))
        lines.close()
        assert read_jsonl(path) == [record(), record(2)]

    def test_two_runs_do_not_mix_their_lines(self, path, writer):
        first, second = writer(path, 0, 2), writer(path, 1, 2)
        wait_for(path, 100_000, first)
        while {one.step % 2 for one in read_jsonl(path)} != {0, 1}:
            time.sleep(0.01)
            assert first.poll() is None
            assert second.poll() is None
        wait_for(path, path.stat().st_size + 1_000_000, second)
        for process in (first, second):
            process.kill()
            process.wait()
        steps = [one.step for one in read_jsonl(path)]
        for parity in (0, 1):
            some = [step for step in steps if step % 2 == parity]
            assert some
            assert some == list(range(parity, parity + 2 * len(some), 2))


class TestFollowing:
    def test_only_whole_lines_are_read(self, path):
        follower = Follower(path)
        assert (follower.look(), follower.exists) == ([], False)
        path.write_bytes(line_of(record(0))[:-1])
        assert (follower.look(), follower.exists) == ([], True)
        path.write_bytes(line_of(record(0)) + b'{"sch')
        assert follower.look() == [record(0)]
        assert follower.look() == []
        write(path, [record(1)])
        assert follower.look() == [record(1)]
        assert follower.records == [record(0), record(1)]

    @pytest.mark.parametrize("count", [1, 3, 40])
    def test_a_file_that_was_replaced_is_read_from_its_beginning(self, path, count):
        write(path, [record(n) for n in range(20)])
        follower = Follower(path)
        follower.look()
        path.rename(path.with_suffix(".1"))
        assert (follower.look(), follower.exists) == ([], False)
        write(path, [record(100 + n) for n in range(count)])
        assert [one.step for one in follower.look()] == list(range(100, 100 + count))
        assert len(follower.records) == count

    def test_a_file_that_was_emptied_and_written_again_is_read_from_its_beginning(self, path):
        write(path, [record(n) for n in range(5)])
        follower = Follower(path)
        follower.look()
        path.write_bytes(line_of(record(70)))
        assert follower.look() == [record(70)]
        path.write_bytes(b"")
        follower.look()
        assert follower.records == []

    def test_a_whole_line_that_is_no_record_is_named(self, path):
        write(path, [record(0)])
        follower = Follower(path)
        follower.look()
        with path.open("ab") as file:
            file.write(b"not a record\n")
        with pytest.raises(InputError, match=r"line 2 of .* is not JSON"):
            follower.look()
