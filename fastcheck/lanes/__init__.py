"""A slice as a program for lanes: eight perturbed copies side by side, interpreted in machine code.

The generated kernels of `fastcheck.fusion` are quicker, but each of them has to be made first. Here
one interpreter is compiled for all networks, and kept on disk; a slice only has to be written down
as a list of instructions. It goes through these, each a file that knows only those before it:

- `assembly`: LLVM's language, as far as it is needed; `opcodes`: the instructions and what is in
  them; `elementwise`, `products`, `places`: what the instructions do; `interpreter`: all of them
  together in a loop over copies;
- `writer`: a list of instructions under construction, and where differences lie in memory;
- `delta`: a difference on its way: an array, or a few numbers that are still to be added to one;
- `rules` and, registered there, `smooth`, `kinks`, `contraction` and `structure`: how each
  primitive is written down;
- `program`: a whole slice; `run`: its copies over threads.

Every number of the program is a vector of eight: one for each copy. So samples and units may be as
few as they like, and constants are read once for eight copies.
"""
