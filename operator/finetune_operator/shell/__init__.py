"""The only place that knows kopf: handlers, settings, probes, start and stop."""
