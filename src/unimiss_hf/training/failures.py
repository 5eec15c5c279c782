"""What ends a run of training."""


class NonFiniteLossError(RuntimeError):
    """The loss or a gradient is not a number; nothing has been updated with it."""
