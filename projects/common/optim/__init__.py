"""Optimizers, mixed precision and learning rate schedules."""
