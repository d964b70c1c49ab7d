"""Settings for the whole suite."""

import os

# Read when NumPy is first imported. A second BLAS thread gains nothing on matrices this small, and
# loses a lot where other processes want the core.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
