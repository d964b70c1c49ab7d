"""Ways to compute J(θ+h) − J(θ) and J(θ) − J(θ−h) for single parameters; one signature."""
