"""Random human brains from an average template: anatomy, lesions and MR images, all a function of one seed."""
