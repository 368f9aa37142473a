"""Set up before anything imports torch."""

import os

# The networks of the tests are tiny: a second thread only waits for the first, above all on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"
