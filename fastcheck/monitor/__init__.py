"""A gradient check inside a training loop: when, what, at what price, and the record of it."""

from fastcheck.monitor.jsonl import JsonLines, read_jsonl
from fastcheck.monitor.monitor import Monitor
from fastcheck.monitor.plot import plot_history
from fastcheck.monitor.record import Record

__all__ = ["JsonLines", "Monitor", "Record", "plot_history", "read_jsonl"]
