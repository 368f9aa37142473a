"""Set up before anything imports torch."""

import os

from hypothesis import settings

# The networks of the tests are tiny: a second thread only waits for the first, above all on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("lab", deadline=None)
settings.load_profile("lab")
