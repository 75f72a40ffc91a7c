"""Optimizers, mixed precision and schedules."""
