"""`make bench-train`: our trainer beside its peers, on the same tokens, in one interleaved run."""
