"""A whole Kubernetes on one Linux machine, for tests: built from source, started, and taken away.

`python -m cluster` is the command line, `cluster.fixture` the pytest plugin. Standard library only,
so that it runs before anything is installed. Nothing in here knows what the operator does.
"""
