"""Reading files from outside without running them, and writing files whole."""
