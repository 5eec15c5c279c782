"""Shadows of organs, against bodies whose shadows are known."""

import nibabel
import numpy as np
import pytest

from unimiss_hf.data.organ_shadows import OrganShadows
from unimiss_hf.data.radiographs import RadiographGeometry

# Rays as good as parallel; float32 has few digits left for so far a source.
FAR = {"source_to_isocentre": 1e6, "source_to_detector": 1e6 + 300}


def shadows() -> OrganShadows:
    """A cuboid of 20 x 30 x 40 mm (x, y, z), off the centre of a volume of 2 mm voxels."""
    organ_map = np.zeros((60, 50, 40), dtype=np.uint8)
    organ_map[10:20, 5:20, 15:35] = 1
    organ_map[40, 40, 20] = 2
    image = nibabel.Nifti1Image(organ_map, np.diag([2.0, 2.0, 2.0, 1.0]))
    return OrganShadows(image, ("cuboid", "dot"), (2.0, 2.0, 2.0))


def test_lengths_are_those_of_the_rays_in_the_body():
    geometry = RadiographGeometry(detector_size=(40, 60), pixel_spacing=2.0, **FAR)
    lengths = shadows().lengths("cuboid", geometry).numpy()
    # From the back, columns run from the patient's right to the left, rows from the head down.
    wanted = np.zeros((40, 60), dtype=np.float32)
    wanted[5:25, 40:50] = 30
    np.testing.assert_allclose(lengths, wanted, atol=0.25)


def test_a_pixel_is_in_the_shadow_beyond_the_shortest_path():
    geometry = RadiographGeometry(angle=90, detector_size=(40, 50), pixel_spacing=2.0, **FAR)
    assert shadows().mask("cuboid", geometry, 19.5).sum() == 15 * 20
    assert not shadows().mask("cuboid", geometry, 20.5).any()
    assert shadows().mask("dot", geometry, 1.0).sum() == 1


@pytest.mark.parametrize("angle", [0.0, 25.0, 205.0])
def test_a_moved_isocentre_moves_the_shadow_as_it_moves_the_radiograph(angle):
    geometry = RadiographGeometry(
        angle=angle, isocentre=(8.0, 0.0, 0.0), detector_size=(40, 60), pixel_spacing=2.0, **FAR
    )
    centred = RadiographGeometry(angle=angle, detector_size=(40, 60), pixel_spacing=2.0, **FAR)
    moved, still = (shadows().lengths("cuboid", one).numpy() for one in (geometry, centred))
    # The field goes up by four pixels, so what it shows goes down.
    np.testing.assert_allclose(moved[4:], still[:-4], atol=0.25)


def test_an_organ_that_is_nowhere_is_named():
    image = nibabel.Nifti1Image(np.ones((4, 4, 4), dtype=np.uint8), np.eye(4))
    with pytest.raises(ValueError, match=r"no voxel of liver \(label 2\)"):
        OrganShadows(image, ("lungs", "liver"), (1.0, 1.0, 1.0))
