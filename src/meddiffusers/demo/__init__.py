"""The tour of what the package does: one section a system, on one HTML page."""
