"""The Hub: model cards, what goes there, and how it gets there."""
