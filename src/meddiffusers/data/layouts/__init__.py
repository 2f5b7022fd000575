"""Writers of the folder layouts that published data sets have, so that their loaders read phantoms too."""
