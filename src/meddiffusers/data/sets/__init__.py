"""Data sets as they are downloaded, each a function that returns a `datasets.DatasetDict`."""
