"""What is learned from an example: one objective a file, all as `objective.py` has it."""
