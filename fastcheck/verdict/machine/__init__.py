"""The two inner loops of a verdict in machine code, for checks in which LLVM runs anyway.

They know the ordinary case only: everything finite and far from the ends of the range of floats,
and no element on a kink. What is not ordinary they leave to NumPy.
"""
