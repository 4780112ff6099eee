"""Settings for every test, whatever part of the project is tested."""

import os

# One thread is as fast as two on small tensors, and steadier. Kernels of notebooks
# inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
