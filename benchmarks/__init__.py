"""Benchmarks of fastcheck: ``python -m benchmarks NAME`` from the project's root.

Each benchmark is one module with ``SUMMARY``, ``add_arguments(parser)`` and ``run(arguments)``;
``harness`` measures, describes the machine, and draws the tables for all of them.
"""
