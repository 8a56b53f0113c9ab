"""Which parameters are trained: one method a file."""
