"""Lesions of the brain phantom: tumours, white-matter lesions, resection cavities, and the raters who outline them."""
