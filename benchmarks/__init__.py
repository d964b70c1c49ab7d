"""Benchmarks of fastcheck: ``python -m benchmarks NAME`` from the project's root.

Each benchmark is one module with ``SUMMARY``, ``add_arguments(parser)`` and ``run(arguments)``.
`timing` measures, `machine` describes where, `tables` and `plots` show, and `results` saves; a
`cases.Case` is the network, and `ways` are the ways to differentiate it. What needs a GPU is in
`gpu` and `ongpu`.
"""
