"""Manifests, pure: plan and resource in, JSON objects out. One stage a file; no decisions."""
