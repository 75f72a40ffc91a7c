"""Speed on a CPU: matrix products, shorter formats, memory and timing."""
