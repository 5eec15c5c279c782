"""Images on disk or on the Hub, made into samples and batches."""
