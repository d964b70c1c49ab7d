"""Reports: plain data (`data`), and one renderer a module (`text`, `serialise`, `progress`)."""

from fastcheck.report.data import Diagnosis, Finding, Report, TensorReport, Verdict, Worst

__all__ = ["Diagnosis", "Finding", "Report", "TensorReport", "Verdict", "Worst"]
