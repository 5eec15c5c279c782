"""Data sets with labels, as they are downloaded: a reader each, and how their cases are split."""
