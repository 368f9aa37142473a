"""Train, guide, score, sweep, rank and report: `python run_experiments.py digits`, from nothing to a finished report.

The installed command `diffusion-lab` is the same; `experiments/command_line.py` has the command line of both.
"""

import sys

from experiments.command_line import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
