"""The learning rate of each step: a linear warm-up, then a polynomial fall to 0."""


def learning_rate_at(
    step: int, total_steps: int, peak: float, warmup_fraction: float, power: float
) -> float:
    """Return the learning rate of an optimiser step.

    Args:
        step: Steps taken before.
        total_steps: Of the whole run.
        peak: Reached by the last step of the warm-up.
        warmup_fraction: Share of all steps that it takes; its first step moves already.
        power: Of the fall: `peak * (1 - t) ** power`, where t goes from 0 to 1 at the run's end
            (Chen et al., "DeepLab", 2018).

    Raises:
        IndexError: If the run has no such step.
    """
    if not 0 <= step < total_steps:
        raise IndexError(f"Step {step} is none of the {total_steps} steps of the run.")
    warmup = round(warmup_fraction * total_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 - (step - warmup) / (total_steps - warmup)) ** power
