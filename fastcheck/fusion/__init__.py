"""Fused kernels: machine code for one slice of the graph, made from the slice itself.

A slice goes through these, each a file that knows only those before it:

- `roots`: where the tensor's elements enter, and which of them share a kernel;
- `lower` with its rules: every node's difference as a `form`, constants times a variable, where the
  constants are `hoisted` out of the kernel, and the loss's as one `expression`;
- `schedule`: the samples along vectors, short axes unrolled, long ones loops;
- `printer`: the expression as `code` of a language, `llvm` for the CPU or `cuda`; `source`: what
  was printed, once for all programs of one structure;
- `blockwise`: constants put in place; `kernel`: on the CPU, compiled by `compiler` and kept on
  disk, copies spread over threads; `ongpu`: the same on a CUDA device.

The kernel refuses a copy for which something crosses a kink or leaves the reach of a polynomial.
"""
