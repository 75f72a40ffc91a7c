"""Load checkpoints safely, compare them with a model, and convert them."""
