"""Label maps of the left ventricle in short-axis slices, as ACDC has them, for shape models."""
