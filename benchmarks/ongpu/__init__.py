"""What `benchmarks.gpu` is made of.

`network` measures one network: `ways` are the ways to differentiate it, `peers` those of other
packages. `device` describes the GPU, `launches` watches fastcheck's kernels, and `cold` times a
first check, which `child` makes.
"""
