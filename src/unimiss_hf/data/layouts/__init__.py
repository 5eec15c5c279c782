"""Data sets as they are downloaded: a small reader for each, see `catalog.LAYOUTS`."""
