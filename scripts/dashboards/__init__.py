"""The dashboards of deploy/grafana, which scripts/gen-dashboards writes."""
