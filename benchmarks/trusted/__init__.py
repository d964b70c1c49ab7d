"""The parts of `benchmarks.trust`: networks, their training, other rules, counts, and costs."""
