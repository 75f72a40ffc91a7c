"""Read untrusted files without executing their content, and write files atomically."""
