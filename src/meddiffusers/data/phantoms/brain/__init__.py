"""Brain phantom: random anatomies, lesions and MR images, generated from an average template and one seed."""
