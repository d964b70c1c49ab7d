"""How constants lie in memory: blocks of eight samples, what one copy needs close together."""

from __future__ import annotations

import numpy as np
import pytest

from fastcheck.fusion.dims import Label, Pin
from fastcheck.fusion.hoisted import known
from fastcheck.fusion.layout import Layout
from fastcheck.fusion.schedule import WIDTH, Schedule

PIN, SAMPLES, CLASSES, UNITS = Pin(0, 2), Label(0, 21), Label(1, 3), Label(2, 20)
NAMES = {PIN: "p", SAMPLES: "n", CLASSES: "c", UNITS: "u"}


def layout(*dims: Pin | Label, zeros: bool = False, vector: bool = True) -> Layout:
    array = 1.0 + np.arange(float(np.prod([dim.size for dim in dims])))
    hoisted = known(array.reshape([dim.size for dim in dims]), dims)
    parts = {"order": (), "vector": SAMPLES if vector else None, "level": {}, "roots": ()}
    known_parts = {name: parts[name] for name in Schedule.__dataclass_fields__ if name in parts}
    return Layout(hoisted, Schedule(loops=frozenset({SAMPLES, UNITS}), **known_parts), zeros)


def values(of: Layout) -> np.ndarray:
    assert of.hoisted.known is not None
    return of.hoisted.known


@pytest.mark.parametrize("zeros", [True, False])
def test_samples_are_padded_to_whole_vectors(zeros: bool) -> None:
    made = layout(SAMPLES, zeros=zeros)
    array = made.arranged(values(made))
    assert array.shape == (3, WIDTH)
    np.testing.assert_array_equal(array.reshape(-1)[:21], values(made))
    np.testing.assert_array_equal(array.reshape(-1)[21:], 0 if zeros else values(made)[-1])


def test_whole_vectors_are_not_padded() -> None:
    samples = Label(0, 16)
    hoisted = known(np.arange(16.0), (samples,))
    fields = dict.fromkeys(Schedule.__dataclass_fields__, ())
    fields |= {"vector": samples, "loops": frozenset({samples}), "level": {}}
    array = Layout(hoisted, Schedule(**fields), True).arranged(hoisted.known)
    np.testing.assert_array_equal(array, np.arange(16.0).reshape(2, WIDTH))


def test_blocks_are_outside_and_lanes_inside() -> None:
    made = layout(PIN, SAMPLES, CLASSES, UNITS)
    array = made.arranged(values(made))
    assert array.shape == (2, 3, 20, 3, WIDTH)
    assert array.flags.c_contiguous
    for n in (0, 7, 8, 20):
        np.testing.assert_array_equal(
            array[:, n // 8, :, :, n % 8], values(made)[:, n].transpose(0, 2, 1)
        )


def test_without_samples_there_are_no_lanes() -> None:
    made = layout(PIN, CLASSES, UNITS)
    assert not made.vectorised
    assert made.inner == 3
    np.testing.assert_array_equal(made.arranged(values(made)), values(made).transpose(0, 2, 1))


def test_loops_and_unrolled_labels_are_told_apart() -> None:
    made = layout(PIN, SAMPLES, CLASSES, UNITS)
    assert made.pins == (PIN,)
    assert made.looped == (UNITS,)
    assert made.unrolled == (CLASSES,)
    assert made.inner == 3 * WIDTH


def test_offsets_find_the_elements_of_an_iteration() -> None:
    made = layout(SAMPLES, CLASSES)
    flat = made.arranged(values(made)).reshape(-1)
    for c in range(3):
        lanes = flat[made.offset({CLASSES: c}) :][:WIDTH]
        np.testing.assert_array_equal(lanes, values(made)[:WIDTH, c])


def test_without_a_vector_every_element_is_on_its_own() -> None:
    made = layout(CLASSES, vector=False)
    assert [made.offset({CLASSES: c}) for c in range(3)] == [0, 1, 2]
