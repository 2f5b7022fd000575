"""Preprocessing: resampling, intensity normalisation, slicing, and their inverse."""
