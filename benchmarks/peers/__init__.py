"""fastcheck against other tools that compute or check numerical gradients.

`base` says what a peer is; ``of_*`` hold the peers by package; `benchmark` runs them.
"""
