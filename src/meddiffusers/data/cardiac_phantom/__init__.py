"""Random beating hearts in an apical view: label maps in mm, ultrasound pictures, faulty segmentations."""
