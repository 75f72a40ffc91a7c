"""CPU performance: matrix products, reduced precision, memory and timing."""
