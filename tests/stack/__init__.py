"""The operator and a Hub, installed on a cluster as a user would.

The demo and the end-to-end tests stand on it.
"""
