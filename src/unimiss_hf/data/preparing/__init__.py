"""Folders of images and volumes made into one data set in shards, and that put on the Hub."""
