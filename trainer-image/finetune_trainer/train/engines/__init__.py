"""How the ranks share one model: one engine a file, all with the interface in `engine.py`."""
