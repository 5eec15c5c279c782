"""What the teacher knows of organs on the way, without a label of the run's own data."""

import math

from accelerate import Accelerator

from ..data.sample import find_sample_ct
from ..probing.organ_probe import OrganProbe, number_names
from ..probing.scores import NonFiniteFeaturesError
from .log_line import PROBE_PREFIX
from .settings import PretrainingSettings
from .state import TrainingState


class TeacherProbe:
    """Probes the teacher's encoder every `probe_every` steps, on patches of the sample CT.

    Patches have the size and spacing of the run's volumes; in 2D, the slices through their centres
    are read. Patches are the same in every run of these settings, whatever its seed. Nothing of the
    training's random numbers is drawn, and the teacher stays as it is.

    Args:
        settings: Settings of the run, with `probe_every`.
        accelerator: Its processes; the main one probes, in float32, and the others wait.

    Raises:
        FileNotFoundError: If the sample CT is not installed.
        ValueError: If the CT has too few patches of that size, spacing or number.
    """

    def __init__(self, settings: PretrainingSettings, accelerator: Accelerator):
        self.every = settings.probe_every
        self.dimensions = settings.dimensions
        # In every process, so that all of them stop.
        try:
            find_sample_ct()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"probe_every is {self.every}, and a probe reads the sample CT: leave probe_every "
                f"out, or install the CT. {error}"
            ) from error
        self._probe = None
        if accelerator.is_main_process:
            self._probe = OrganProbe(settings.volume_size, settings.spacing, settings.probe_size)

    def is_due(self, step: int) -> bool:
        """Whether to measure behind a step, counted from 1."""
        return step % self.every == 0

    def measure(self, state: TrainingState) -> dict[str, float]:
        """Measure the teacher; every process must call it.

        Returns:
            On the main process, numbers of the log by name, not finite if the features are not; on
            the others, nothing.
        """
        teacher = state.whole_teacher()
        numbers: dict[str, float] = {}
        if self._probe is not None:
            encoder = teacher.encoder.to(state.accelerator.device)
            try:
                numbers = self._probe.numbers(encoder, self.dimensions)
            except NonFiniteFeaturesError:
                numbers = dict.fromkeys(number_names(self.dimensions), math.nan)
        state.accelerator.wait_for_everyone()
        return {PROBE_PREFIX + name: number for name, number in numbers.items()}
