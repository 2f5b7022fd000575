"""Random human brains from an average template: anatomy, lesions and MR pictures, all a function of one seed."""
