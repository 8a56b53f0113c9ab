"""The resource's models (pydantic): the source of truth of the CRD."""
