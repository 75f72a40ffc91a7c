"""CPU performance: matrix products, reduced precision and memory."""
