"""Building blocks of the command-line tools: options, configs, overrides, error reports and runs.

The modules import MMEngine only where they need it, so that ``--help`` is fast.
"""

import os

# GNU OpenMP's threads wait actively for milliseconds between two operators. Beside other processes
# they keep each other from working: a step of PLVL's quick start took 4.3 s instead of 1.7. A wait
# of microseconds serves idle cores as well, and saves a quarter of the CPU time there. OpenMP reads
# this once, when PyTorch is imported.
if 'OMP_WAIT_POLICY' not in os.environ:
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')
