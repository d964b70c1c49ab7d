"""Settings for the whole suite."""

import os
import tempfile

# Read when NumPy is first imported. A second BLAS thread gains nothing on matrices this small, and
# loses a lot where other processes want the core.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Kernels that tests compile are kept in a folder of their own, which goes away with the process.
_KERNELS = tempfile.TemporaryDirectory(prefix="fastcheck-kernels-")
os.environ["FASTCHECK_CACHE_DIR"] = _KERNELS.name
