"""Records for TensorBoard, through stand-ins for its writers and through those that are there."""

import builtins
import math
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import ClassVar

import pytest

from fastcheck.errors import InputError
from fastcheck.monitor.record import Record
from fastcheck.monitor.tensorboard import TensorBoardWriter
from fastcheck.report.data import Verdict

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
MODULES = ("torch", "torch.utils.tensorboard", "tensorboardX", "tensorboard", "tensorboard.summary")


def record(step=40, verdict=FAIL, **values):
    plain = {
        "mode": "full",
        "loss": 2.5,
        "relative_difference": 0.5,
        "error_bar": 8e-9,
        "smallest_gradient": 1e-7,
        "largest_gradient": 0.1,
        "tensors": {"W1": FAIL, "b1": INCONCLUSIVE, "W2": PASS},
        "compared": 7960,
        "seconds": 0.05,
        "training_seconds": 1.5,
        "share": 0.03,
        "notes": ("W1 is twice too large.", "Look at the mean."),
    }
    return Record(step=step, verdict=verdict, **{**plain, **values})


class FakeWriter:
    """The calls that the real writers have in common; positions and names as they declare them."""

    made: ClassVar[list] = []

    def __init__(self, logdir):
        self.logdir, self.calls, self.flushed, self.closed = logdir, [], 0, 0
        FakeWriter.made.append(self)

    def add_scalar(self, tag, value, step):
        self.calls.append((tag, value, step))

    def flush(self):
        self.flushed = len(self.calls)

    def close(self):
        assert not self.closed  # TensorBoard's own writer raises
        self.closed = 1


class FakeTextWriter(FakeWriter):
    def add_text(self, tag, text, step):
        self.calls.append((tag, text, step))


@pytest.fixture
def install(monkeypatch):
    """Make stand-ins the only writers there are; each is named by its module."""
    FakeWriter.made = []
    real = builtins.__import__

    def absent(name, *rest):
        if name.split(".")[0] in ("torch", "tensorboard", "tensorboardX"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *rest)

    def installed(*names):
        for name in MODULES:
            monkeypatch.delitem(sys.modules, name, raising=False)
            if name not in names and name not in [one.split(".")[0] for one in names]:
                # None makes an import of the name raise ModuleNotFoundError.
                monkeypatch.setitem(sys.modules, name, None)
        for name in names:
            kind = FakeWriter if name == "tensorboard.summary" else FakeTextWriter
            module = ModuleType(name)
            attribute = "Writer" if name == "tensorboard.summary" else "SummaryWriter"
            setattr(module, attribute, type(name, (kind,), {"module": name}))
            monkeypatch.setitem(sys.modules, name, module)
        if "torch.utils.tensorboard" not in names:
            monkeypatch.delitem(sys.modules, "torch", raising=False)

    monkeypatch.setattr(builtins, "__import__", absent)
    return installed


WRITERS = ["torch.utils.tensorboard", "tensorboardX", "tensorboard.summary"]


@pytest.mark.parametrize("name", WRITERS)
def test_each_writer_is_used_where_it_is_the_only_one(install, tmp_path, name):
    install(name)
    with TensorBoardWriter(tmp_path) as writer:
        writer.write(record())
    (fake,) = FakeWriter.made
    assert fake.module == name
    assert fake.logdir == str(tmp_path)
    assert fake.closed
    scalars = {tag: value for tag, value, _ in fake.calls if isinstance(value, float)}
    assert scalars == {
        "fastcheck/loss": 2.5,
        "fastcheck/relative_difference": 0.5,
        "fastcheck/error_bar": 8e-9,
        "fastcheck/smallest_gradient": 1e-7,
        "fastcheck/largest_gradient": 0.1,
        "fastcheck/seconds": 0.05,
        "fastcheck/share": 0.03,
        "fastcheck/verdict": -1.0,
        "fastcheck_tensors/W1": -1.0,
        "fastcheck_tensors/b1": 0.0,
        "fastcheck_tensors/W2": 1.0,
    }
    assert {step for *_, step in fake.calls} == {40}
    texts = [value for tag, value, _ in fake.calls if tag == "fastcheck/notes"]
    expected = ["W1 is twice too large.\n\nLook at the mean."]
    assert texts == ([] if name == "tensorboard.summary" else expected)


def test_a_record_is_handed_over_at_once(install, tmp_path):
    install("tensorboardX")
    writer = TensorBoardWriter(tmp_path)
    writer.write(record(notes=()))
    assert FakeWriter.made[0].flushed == len(FakeWriter.made[0].calls) == 11


def test_torch_is_not_imported_for_it_alone(install, tmp_path):
    install("torch.utils.tensorboard", "tensorboard.summary")
    TensorBoardWriter(tmp_path)
    assert FakeWriter.made[0].module == "tensorboard.summary"


def test_torch_comes_first_where_the_program_uses_it(install, tmp_path, monkeypatch):
    install(*WRITERS)
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    TensorBoardWriter(tmp_path)
    assert FakeWriter.made[0].module == "torch.utils.tensorboard"


def test_without_any_the_remedy_is_named(install, tmp_path):
    install()
    with pytest.raises(InputError, match=r"`pip install tensorboard`, or tensorboardX"):
        TensorBoardWriter(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_cannot_be_imported_is_named_with_its_reason(install, tmp_path, monkeypatch):
    install("tensorboardX")
    monkeypatch.delattr(sys.modules["tensorboardX"], "SummaryWriter")
    with pytest.raises(InputError, match=r"tensorboardX cannot be imported, AttributeError: "):
        TensorBoardWriter(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(install, tmp_path, monkeypatch):
    install("tensorboardX")

    def refuse(logdir):
        raise NotADirectoryError(20, "Not a directory")

    monkeypatch.setattr(sys.modules["tensorboardX"], "SummaryWriter", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(Not a directory\)"):
        TensorBoardWriter(tmp_path / "file")


def test_closing_twice_is_nothing_and_writing_then_is_refused(install, tmp_path):
    install("tensorboard.summary")
    writer = TensorBoardWriter(tmp_path)
    writer.close()
    writer.close()
    with pytest.raises(InputError, match="the writer was closed"):
        writer.write(record())


@pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="TensorBoard, which reads the files, is not installed"
)
@pytest.mark.parametrize("name", WRITERS)
def test_tensorboard_itself_reads_what_was_written(tmp_path, monkeypatch, name):
    pytest.importorskip(name)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from fastcheck.monitor import tensorboard

    attribute = "Writer" if name == "tensorboard.summary" else "SummaryWriter"
    monkeypatch.setattr(tensorboard, "_TORCH", (name, attribute))
    monkeypatch.setattr(tensorboard, "_OTHERS", ())
    writer = TensorBoardWriter(tmp_path)
    for step in range(3):
        writer.write(record(step, PASS if step < 2 else FAIL, loss=math.nan if step else 0.5))
    # Not closed: as a killed run leaves it.
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [value for _, value in read(events, "fastcheck/verdict")] == [1, 1, -1]
    steps, losses = zip(*read(events, "fastcheck/loss"), strict=True)
    assert steps == (0, 1, 2)
    assert losses[0] == 0.5
    assert math.isnan(losses[1])
    writer.close()


def read(events, tag):
    """Return the steps and values of a tag, whichever of its two ways it was written in."""
    from tensorboard.util import tensor_util

    if tag in events.Tags()["scalars"]:
        return [(event.step, event.value) for event in events.Scalars(tag)]
    return [
        (event.step, float(tensor_util.make_ndarray(event.tensor_proto)))
        for event in events.Tensors(tag)
    ]
