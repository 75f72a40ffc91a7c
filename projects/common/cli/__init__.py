"""Parts of the command-line tools: options, configs and overrides, error reports, runs.

Its modules import MMEngine only where they need it, so that a tool answers ``--help`` quickly.
"""
