"""A small Hub: a real HTTP server that speaks what `huggingface_hub` needs, with storage on disk.

`python -m hub serve` runs it, `python -m hub seed` fills it, `hub.fixture` is the pytest plug-in.
Serving imports nothing of Hugging Face; only `hub.seed` and `hub.fixture` use the client.
"""
