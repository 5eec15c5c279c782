"""Digitally reconstructed radiographs: X-ray images computed from a CT volume.

A point source shines through the volume onto a flat detector, and each pixel measures what its ray
has left (monochromatic, without scatter):

1. Hounsfield units become linear attenuation, `mu = mu_water * (1 + HU / 1000)`, never below 0.
2. Along the ray from the source to each pixel's centre, attenuation is summed to the line integral
   `L`, which has no unit.
3. Beer and Lambert: the pixel receives the share `exp(-L)` of the unattenuated intensity.
4. Display: grey levels follow the negative logarithm of that exposure, so bone is bright and air is
   dark, between two percentiles of the part of the image that shows the patient.

The sum of step 2 follows P. M. Joseph, "An improved algorithm for reprojecting rays through pixel
images", IEEE TMI 1982: a ray is sampled, linearly, where it crosses parallel planes of the volume.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch.nn import functional as F

# Liquid water of 1 g/cm3 at 60 keV, about the mean energy of a chest radiograph's beam: NIST
# Standard Reference Database 126 (Hubbell and Seltzer, NISTIR 5632), table 4: 0.2059 cm2/g.
WATER_ATTENUATION = 0.02059  # per mm

# A view counts as taken from the front if the angle's cosine is below this (120 to 240 degrees), so
# that laterals a little off 90 and 270 degrees still look like laterals.
_MIRRORED_BELOW = -0.5
# Samples held at a time: their positions and values take about 50 bytes each.
_SAMPLES_PER_CHUNK = 2**20
# A ray has crossed the patient if its line integral is above this share of the upper percentile of
# all rays. Without that limit, the grey levels would hang on how much air surrounds the patient.
_PATIENT_SHARE = 0.1
# Grey levels' percentiles come from so many pixels at most, spread over the image.
_PIXELS_FOR_PERCENTILES = 2**20
# The smallest cosine of a ray to the planes' axis: below it, samples lie too far apart.
_SMALLEST_COSINE = 0.2


@dataclass(frozen=True)
class RadiographGeometry:
    """Where source and detector stand, and how the picture is turned for display.

    The source circles the isocentre; the detector stands opposite to it, its centre on the central
    ray and its plane perpendicular to that ray. The picture has the head up. Its columns run from
    the patient's right to the patient's left, as though the reader faced the patient, whether the
    source is behind (`angle` 0, posterior-anterior, PA) or in front (`angle` 180,
    anterior-posterior, AP; the picture is mirrored between 120 and 240 degrees). In a lateral, the
    reader stands behind the detector: `angle` 90 (source at the patient's right, a left lateral)
    has the patient's front at the picture's left, and `angle` 270 has it at the right.
    """

    angle: float = field(
        default=0.0,
        metadata={"help": "degrees: source behind (0), right (90), in front (180), left (270)"},
    )
    elevation: float = field(
        default=0.0, metadata={"help": "degrees by which the source is raised towards the head"}
    )
    roll: float = field(
        default=0.0, metadata={"help": "degrees by which the picture is turned clockwise"}
    )
    isocentre: tuple[float, float, float] = field(
        default=(0.0, 0.0, 0.0),
        metadata={"help": "mm from the volume's centre: superior, anterior, right"},
    )
    source_to_isocentre: float = field(default=1500.0, metadata={"help": "mm"})
    source_to_detector: float = field(
        default=1800.0, metadata={"help": "mm; this over source_to_isocentre is the magnification"}
    )
    detector_size: tuple[int, int] = field(
        default=(384, 384), metadata={"help": "pixels: height, width"}
    )
    pixel_spacing: float = field(
        default=1.0, metadata={"help": "mm between pixel centres on the detector"}
    )

    def __post_init__(self):
        for setting in fields(self):
            value = getattr(self, setting.name)
            if not np.all(np.isfinite(value)):
                raise ValueError(f"{setting.name} is {value}; it must be finite.")
        if len(self.isocentre) != 3:
            raise ValueError(
                f"isocentre is {self.isocentre}; it must be three lengths in mm: superior, "
                f"anterior, right."
            )
        if abs(self.elevation) >= 90:
            raise ValueError(f"elevation is {self.elevation}; it must lie between -90 and 90.")
        if not 0 < self.source_to_isocentre < self.source_to_detector:
            raise ValueError(
                f"source_to_isocentre is {self.source_to_isocentre} mm and source_to_detector "
                f"{self.source_to_detector} mm; the isocentre must lie between source and detector."
            )
        if len(self.detector_size) != 2 or min(self.detector_size) < 1:
            raise ValueError(
                f"detector_size is {self.detector_size}; it must be two numbers of pixels above 0: "
                f"height, width."
            )
        if self.pixel_spacing <= 0:
            raise ValueError(f"pixel_spacing is {self.pixel_spacing} mm; it must be above 0.")

    def rays(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Place source and pixels in mm from the volume's centre, as (superior, anterior, right).

        Returns:
            The source's position, `(3,)`, and the way from there to each pixel's centre,
            `(height, width, 3)`, both float64.
        """
        angle, elevation, roll = (
            math.radians(degrees) for degrees in (self.angle, self.elevation, self.roll)
        )
        horizontal = _vector(0, -math.cos(angle), math.sin(angle))
        upward = _vector(1, 0, 0)
        to_source = math.cos(elevation) * horizontal + math.sin(elevation) * upward
        down = math.sin(elevation) * horizontal - math.cos(elevation) * upward
        # With the source in front, the detector sees the patient from behind.
        facing = -1.0 if math.cos(angle) < _MIRRORED_BELOW else 1.0
        across = facing * _vector(0, -math.sin(angle), -math.cos(angle))
        # A picture turned clockwise comes from a detector whose axes are turned the other way.
        across, down = (
            math.cos(roll) * across - math.sin(roll) * down,
            math.sin(roll) * across + math.cos(roll) * down,
        )
        height, width = self.detector_size
        rows, columns = (
            (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * self.pixel_spacing
            for count in (height, width)
        )
        source = torch.tensor(self.isocentre, dtype=torch.float64)
        source = source + self.source_to_isocentre * to_source
        to_pixels = (
            -self.source_to_detector * to_source
            + rows[:, None, None] * down
            + columns[None, :, None] * across
        )
        return source, to_pixels


@torch.no_grad()
def line_integrals(
    volume_hu: torch.Tensor | np.ndarray,
    spacing: Sequence[float],
    geometry: RadiographGeometry | None = None,
    *,
    step: float | None = None,
    water_attenuation: float = WATER_ATTENUATION,
) -> torch.Tensor:
    """Sum attenuation along the ray to each pixel (steps 1 and 2 of the module's description).

    Args:
        volume_hu: `(depth, height, width)` in HU, axes inferior to superior, posterior to anterior,
            patient's left to right. Outside of it there is air.
        spacing: distance of voxel centres in mm, (depth, height, width).
        geometry: where source and detector stand; a PA view if not given.
        step: largest distance in mm of the planes across the rays; by default that of the voxels.
        water_attenuation: linear attenuation of water at the beam's effective energy, per mm.

    Returns:
        `(height, width)`, float32 without unit, on the volume's device.

    Raises:
        ValueError: if the volume is empty, is not 3D or has voxels that are not finite, if spacing
            or a setting is not positive, or if source or detector would stand inside the volume.
    """
    geometry = geometry or RadiographGeometry()
    volume = _checked_volume(volume_hu)
    if len(spacing) != 3:
        raise ValueError(f"spacing is {spacing}; it must be three lengths: depth, height, width.")
    for name, value in (
        *zip(("spacing of depth", "spacing of height", "spacing of width"), spacing, strict=True),
        ("step", step if step is not None else 1.0),
        ("water_attenuation", water_attenuation),
    ):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}; it must be a positive number.")

    attenuation = volume.float().add(1000).mul_(water_attenuation / 1000).clamp_(min=0)
    source, to_pixels = geometry.rays()
    half_extent = torch.tensor(volume.shape, dtype=torch.float64) * _vector(*spacing) / 2
    _require_clearance(source, half_extent, geometry)

    # Planes lie across the axis that the central ray follows most closely.
    central = -(source - torch.tensor(geometry.isocentre, dtype=torch.float64))
    axis = int(central.abs().argmax())
    depth, rest = to_pixels[..., axis], [other for other in range(3) if other != axis]
    lengths = to_pixels.norm(dim=-1)
    if (depth * central[axis].sign() / lengths).min() < _SMALLEST_COSINE:
        height, width = geometry.detector_size
        raise ValueError(
            f"A detector of {height * geometry.pixel_spacing:.0f} x "
            f"{width * geometry.pixel_spacing:.0f} mm is too large for a source at "
            f"{geometry.source_to_detector:.0f} mm: its outer rays run almost along the detector. "
            f"Lower detector_size or pixel_spacing, or raise source_to_detector."
        )
    extent = 2 * float(half_extent[axis])
    count = math.ceil(extent / min(step or math.inf, spacing[axis]) - 1e-6)
    planes = _planes(attenuation.movedim(axis, 0), count)

    # Where the rays cross the plane at distance `t` from the source along the axis, with -1 and 1
    # at the volume's faces and in the order that grid_sample wants: the last axis first.
    first, last = rest
    start, slope = (
        torch.stack(
            [vector[..., last] / half_extent[last], vector[..., first] / half_extent[first]], -1
        )
        for vector in (source, to_pixels / depth[..., None])
    )
    device = volume.device
    start, slope = start.float().to(device), slope.float().to(device)
    distances = (torch.arange(count, dtype=torch.float64) + 0.5) * (extent / count)
    distances = (distances - half_extent[axis] - source[axis]).float().to(device)

    total = torch.zeros(geometry.detector_size, device=device)
    chunk = max(1, _SAMPLES_PER_CHUNK // total.numel())
    for plane, distance in zip(planes.split(chunk), distances.split(chunk), strict=True):
        crossings = start + distance[:, None, None, None] * slope
        samples = F.grid_sample(
            plane[:, None], crossings, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        total += samples.sum(dim=(0, 1))
    path_per_plane = (lengths / depth.abs() * (extent / count)).float().to(device)
    return total * path_per_plane


def display_radiograph(
    integrals: torch.Tensor, percentiles: tuple[float, float] = (1.0, 98.0)
) -> torch.Tensor:
    """Turn line integrals into grey levels (steps 3 and 4 of the module's description).

    Args:
        integrals: line integrals of attenuation, `(height, width)`, without unit.
        percentiles: of the negative log-exposure of the pixels that show the patient, those above a
            tenth of the upper percentile of all pixels. The two become 0 (black) and 1 (white), and
            what lies beyond is clipped.

    Returns:
        `(height, width)`, float32 in [0, 1].

    Raises:
        ValueError: if the percentiles are not ordered within [0, 100], or the image has no contrast
            between them.
    """
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ValueError(f"percentiles is {percentiles}; it must be two, rising, from 0 to 100.")
    exposure = torch.exp(-integrals.float())
    # An exposure of 0 is the rounding of rays through metal; its logarithm must stay finite.
    density = -torch.log(exposure.clamp(min=torch.finfo(torch.float32).tiny))
    sample = density.flatten()[:: math.ceil(density.numel() / _PIXELS_FOR_PERCENTILES)]
    patient = sample[sample > _PATIENT_SHARE * torch.quantile(sample, high / 100)]
    if patient.numel() == 0:
        raise ValueError(
            "The radiograph shows air alone. Check that the detector's rays cross the volume and "
            "that its voxels are in HU."
        )
    black, white = torch.quantile(patient, patient.new_tensor([low / 100, high / 100])).tolist()
    if white <= black:
        raise ValueError(
            f"The radiograph has no contrast: its percentiles {low:g} and {high:g} both have line "
            f"integral {black:.3g}. Check that the volume's voxels are in HU."
        )
    return ((density - black) / (white - black)).clamp(0, 1)


def render_radiograph(
    volume_hu: torch.Tensor | np.ndarray,
    spacing: Sequence[float],
    geometry: RadiographGeometry | None = None,
    *,
    step: float | None = None,
    water_attenuation: float = WATER_ATTENUATION,
    percentiles: tuple[float, float] = (1.0, 98.0),
) -> torch.Tensor:
    """Render the radiograph of a CT volume.

    Args:
        volume_hu: `(depth, height, width)` in HU, axes inferior to superior, posterior to anterior,
            patient's left to right.
        spacing: distance of voxel centres in mm, (depth, height, width).
        geometry: where source and detector stand; a PA view if not given.
        step: largest distance in mm of samples' planes; by default that of the voxels.
        water_attenuation: linear attenuation of water at the beam's effective energy, per mm.
        percentiles: of the patient's negative log-exposure, shown as black and white.

    Returns:
        `(height, width)`, float32 in [0, 1], on the volume's device.

    Raises:
        ValueError: as `line_integrals` and `display_radiograph` do.
    """
    integrals = line_integrals(
        volume_hu, spacing, geometry, step=step, water_attenuation=water_attenuation
    )
    return display_radiograph(integrals, percentiles)


def _vector(*components: float) -> torch.Tensor:
    return torch.tensor(components, dtype=torch.float64)


def _checked_volume(volume_hu: torch.Tensor | np.ndarray) -> torch.Tensor:
    volume = torch.as_tensor(volume_hu)
    if volume.ndim != 3:
        raise ValueError(
            f"The volume has shape {tuple(volume.shape)}; it must have three axes: (depth, height, "
            f"width). Render the volumes of a batch one by one, without their channel axis."
        )
    if volume.numel() == 0:
        raise ValueError(f"The volume has shape {tuple(volume.shape)}: it holds no voxel.")
    if volume.is_complex() or not torch.isfinite(volume).all():
        raise ValueError("The volume has voxels that are not finite real numbers in HU.")
    return volume


def _planes(attenuation: torch.Tensor, count: int) -> torch.Tensor:
    """Resample the first axis linearly to `count` planes of the same extent."""
    if count == attenuation.shape[0]:
        return attenuation.contiguous()
    columns = attenuation.flatten(1).T[None]
    planes = F.interpolate(columns, size=count, mode="linear", align_corners=False)
    return planes[0].T.reshape(count, *attenuation.shape[1:])


def _require_clearance(
    source: torch.Tensor, half_extent: torch.Tensor, geometry: RadiographGeometry
) -> None:
    to_isocentre = torch.tensor(geometry.isocentre, dtype=torch.float64) - source
    direction = to_isocentre / to_isocentre.norm()
    # The corners nearest to and farthest from the source, measured along the central ray.
    reach = float((direction.abs() * half_extent).sum())
    centre = float(-(source * direction).sum())
    if centre - reach <= 0 or centre + reach > geometry.source_to_detector:
        raise ValueError(
            f"Along the central ray the volume reaches from {centre - reach:.0f} to "
            f"{centre + reach:.0f} mm, but it must lie between the source (0 mm) and the detector "
            f"({geometry.source_to_detector:.0f} mm). Change source_to_isocentre (now "
            f"{geometry.source_to_isocentre:.0f} mm) or source_to_detector, or crop the volume."
        )
