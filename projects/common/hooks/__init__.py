"""Hooks of every run."""
