"""Stub."""


def problems() -> list[str]:
    return []
