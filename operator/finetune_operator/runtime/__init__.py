"""The moving parts: store, queue, reconciler, resync. They carry out what the core decides."""
