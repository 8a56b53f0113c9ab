"""An image that keeps the stage contract and shares no code with ours: only the standard library.

It trains nothing. It checks from inside what the contract promises a container, and leaves behind
and says what each stage should. `work.py` and `ending.py` are an example for whoever writes one.
"""
