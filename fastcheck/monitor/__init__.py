"""A gradient check inside a training loop: when, what, at what price, and the record of it."""
