"""The dashboards, as code: ``make dashboards`` writes them as the JSON that Grafana reads."""
