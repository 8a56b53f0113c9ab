"""Grafana's dashboards as code: `make dashboards` writes them to manifests/monitoring/dashboards.

One module a dashboard; `parts` has what they share. What is measured is not decided here: see
docs/metrics.md.
"""
