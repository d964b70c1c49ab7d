"""Reports: plain data (`data`), and one renderer a module (`text`, `serialise`, `progress`)."""

from fastcheck.report.data import Report, TensorReport, Verdict, Worst

__all__ = ["Report", "TensorReport", "Verdict", "Worst"]
