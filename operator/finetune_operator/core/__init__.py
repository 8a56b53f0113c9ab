"""Decisions, pure: no clock, no I/O, no randomness. Facts come in, actions and a status go out."""
