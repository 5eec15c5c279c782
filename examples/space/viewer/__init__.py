"""The parts of the Space: what is read, what models say of it, and how it is shown."""
