"""Whose data files are: what their names say, and copies of the same."""
