"""Building blocks of the command-line tools: options, configs, overrides, error reports and runs.

The modules import MMEngine only where they need it, so that ``--help`` is fast.
"""
