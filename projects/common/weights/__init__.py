"""Checkpoints: loading them safely, comparing them with a model and converting them."""
