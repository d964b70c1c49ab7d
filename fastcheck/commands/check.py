"""``fastcheck check FILE.py:problem``: check the gradients of the user's own problem."""

from __future__ import annotations

from argparse import Namespace

from fastcheck.commands import output
from fastcheck.commands.terminal import Terminal
from fastcheck.commands.usercode import load_problem, split_target, user_code
from fastcheck.problems import Problem


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Check the problem, show the report, and return the exit status."""
    import fastcheck

    output.require_writable(arguments.json)
    problem = load_problem(arguments.target)
    _introduce(problem, terminal)
    with user_code(split_target(arguments.target)[0]):
        report = fastcheck.check(
            problem.loss,
            problem.params,
            problem.grads,
            method=arguments.method,
            step=arguments.step,
            tolerance=arguments.tolerance,
            select=arguments.select,
            engine=arguments.engine,
            device=arguments.device,
            precision=arguments.precision,
            batched=arguments.batched,
            memory=arguments.memory,
            seed=arguments.seed,
        )
    output.show(report, terminal)
    output.save(report.to_json(), arguments.json, terminal)
    return output.status_of(report)


def _introduce(problem: Problem, terminal: Terminal) -> None:
    heading = ": ".join(part for part in (problem.name, problem.description) if part)
    if heading:
        terminal.line(terminal.bold(heading))
        terminal.line()
