"""The parts of `benchmarks.monitor`: what a monitor takes, what it catches, and what it leaves."""
