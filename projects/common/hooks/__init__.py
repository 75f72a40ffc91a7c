"""Hooks used in every run."""
