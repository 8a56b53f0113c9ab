"""The techniques that make a step cheap, one a file, each equal to the plain computation.

What a step computes does not belong here, only how it is computed for less.
"""
