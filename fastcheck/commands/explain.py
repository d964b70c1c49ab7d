"""``fastcheck explain FILE.py:problem``: how a check of it would run, without running it."""

from __future__ import annotations

import json
from argparse import Namespace

from fastcheck.commands import output
from fastcheck.commands.terminal import Terminal
from fastcheck.commands.usercode import load_problem, split_target, user_code


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Show the traced graph, the slices, engines, memory and estimated time; return 0."""
    import fastcheck

    output.require_writable(arguments.json)
    problem = load_problem(arguments.target)
    with user_code(split_target(arguments.target)[0]):
        explanation = fastcheck.explain(
            problem.loss,
            problem.params,
            engine=arguments.engine,
            device=arguments.device,
            precision=arguments.precision,
            batched=arguments.batched,
            memory=arguments.memory,
        )
    terminal.line(str(explanation))
    output.save(json.dumps(explanation.to_dict(), indent=2), arguments.json, terminal)
    return output.PASS
