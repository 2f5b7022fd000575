"""Metrics: functions from arrays to numbers, independent of any model."""
