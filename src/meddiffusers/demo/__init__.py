"""The demo: one section for each system, on one HTML page."""
