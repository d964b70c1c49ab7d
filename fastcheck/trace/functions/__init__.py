"""Rules for NumPy's functions, one file a family; importing this package registers them all."""

from fastcheck.trace.functions import along as along
from fastcheck.trace.functions import calculus as calculus
from fastcheck.trace.functions import contraction as contraction
from fastcheck.trace.functions import convolution as convolution
from fastcheck.trace.functions import indexing as indexing
from fastcheck.trace.functions import join as join
from fastcheck.trace.functions import linalg as linalg
from fastcheck.trace.functions import making as making
from fastcheck.trace.functions import nan_ignoring as nan_ignoring
from fastcheck.trace.functions import polynomials as polynomials
from fastcheck.trace.functions import queries as queries
from fastcheck.trace.functions import reductions as reductions
from fastcheck.trace.functions import selection as selection
from fastcheck.trace.functions import shape as shape
from fastcheck.trace.functions import statistics as statistics
from fastcheck.trace.functions import strided as strided
from fastcheck.trace.functions import universal as universal
