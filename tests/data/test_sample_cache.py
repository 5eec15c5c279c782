"""The cache of samples stays below its bound, in each process."""

import pickle

import numpy as np
import pytest

from unimiss_hf.data.sample_cache import SampleCache


def test_cache_drops_the_least_recently_used():
    cache = SampleCache(3 * 400)
    for key in "abc":
        cache.put(key, np.zeros(100, np.float32))
    cache.get("a")
    cache.put("d", np.zeros(100, np.float32))
    assert cache.get("b") is None
    assert all(cache.get(key) is not None for key in "acd")
    cache.put("large", np.zeros(1000, np.float32))
    assert cache.get("large") is None
    assert cache.num_bytes == 1200
    copy = pickle.loads(pickle.dumps(cache))
    assert (len(copy), copy.num_bytes, copy.max_bytes) == (0, 0, 1200)
    off = SampleCache(0)
    off.put("a", np.zeros(1, np.float32))
    assert len(off) == 0
    with pytest.raises(ValueError, match="-1"):
        SampleCache(-1)
