"""Data sets for training and evaluation: public data sets, phantoms and users' own scans."""
