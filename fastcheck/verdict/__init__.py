"""From differences of the loss to a verdict: noise, step, error bar, comparison, reason."""
