import numpy as np
import pytest

from fastcheck.devices import default_memory, format_bytes, memory, parse_memory
from fastcheck.errors import InputError, InputTypeError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MB", 64_000_000),
        ("64 MB", 64_000_000),
        ("64m", 64_000_000),
        ("1.5 GiB", 1_610_612_736),
        (".5kib", 512),
        ("2TB", 2_000_000_000_000),
        ("4096", 4096),
        (" 4096 B ", 4096),
    ],
)
def test_text_with_a_unit_becomes_bytes(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("number", [1_000_000, 1e6, np.int64(1_000_000), np.float32(1e6)])
def test_a_number_means_bytes(number):
    size = parse_memory(number)
    assert size == 1_000_000
    assert type(size) is int


@pytest.mark.parametrize("text", ["", "lots", "-1MB", "64MB!", "1e3MB", "1,5GB"])
def test_text_that_is_no_amount_is_refused_with_an_example(text):
    with pytest.raises(InputError, match=r'`memory` is .* not an amount of memory: .*"64MB"'):
        parse_memory(text)


def test_an_unknown_unit_is_named():
    with pytest.raises(InputError, match="`memory` is '64 parsec', and 'parsec' is not a unit"):
        parse_memory("64 parsec")


@pytest.mark.parametrize("size", [0, -5, 0.25, float("nan"), float("inf"), "0MB"])
def test_less_than_one_byte_or_no_finite_amount_is_refused(size):
    with pytest.raises(InputError, match=r"`memory` is .* but must be at least one byte"):
        parse_memory(size)


@pytest.mark.parametrize(("value", "kind"), [(True, "bool"), ([64], "list"), (b"64MB", "bytes")])
def test_other_types_are_refused_by_name(value, kind):
    with pytest.raises(InputTypeError, match=f"`memory` must be an amount .* is a {kind}"):
        parse_memory(value)


def test_the_default_is_a_quarter_of_what_is_free(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 400_000_000)
    assert parse_memory(None) == default_memory() == 100_000_000


def test_the_default_never_exceeds_one_gibibyte(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 10**15)
    assert default_memory() == 2**30


def test_the_default_is_usable_when_nothing_is_free(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 0)
    assert default_memory() == 1


@pytest.mark.parametrize(
    ("size", "text"),
    [(12, "12 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (3 * 2**50, "3072.0 TiB")],
)
def test_sizes_are_written_in_binary_units(size, text):
    assert format_bytes(size) == text
