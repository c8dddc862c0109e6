"""Dashboards, and the data sources that they expect."""
