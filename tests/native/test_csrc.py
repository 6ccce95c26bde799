"""csrc/rng.h and csrc/trig.h against their definitions, through a small shared object."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

from puffer_il.native.glue import CSRC, FLAGS

SOURCE = r"""
#include "rng.h"
#include "trig.h"
#define LOOP for (int i = 0; i < n; i++)
__attribute__((visibility("default"))) void pcg32(uint64_t state, uint64_t stream, uint32_t *out, int n) {
    Rng rng = {state, stream};
    LOOP out[i] = rng_u32(&rng);
}
__attribute__((visibility("default"))) void doubles(uint64_t seed, uint64_t index, double *out, int n) {
    Rng rng;
    rng_seed(&rng, seed, index);
    LOOP out[i] = rng_uniform(&rng, -1, 3);
}
__attribute__((visibility("default"))) void below(uint64_t seed, uint32_t limit, uint32_t *out, int n) {
    Rng rng;
    rng_seed(&rng, seed, 0);
    LOOP out[i] = rng_below(&rng, limit);
}
__attribute__((visibility("default"))) void trig(const double *x, double *sine, double *cosine, double *wrapped,
                                                   int n) {
    LOOP {
        sin_cos(x[i], &sine[i], &cosine[i]);
        wrapped[i] = wrap_angle(x[i]);
    }
}
"""


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder: Path = tmp_path_factory.mktemp("csrc")
    (folder / "lib.c").write_text(SOURCE)
    subprocess.run(["gcc", *FLAGS, "-Werror", "-shared", "-fPIC", f"-I{CSRC}", str(folder / "lib.c"), "-o",
                    str(folder / "lib.so"), "-lm"], check=True)
    return ctypes.CDLL(str(folder / "lib.so"))


def call(function, *arguments, dtype: type = np.float64, count: int = 1) -> np.ndarray:
    out = np.zeros(count, dtype)
    function(*arguments, out.ctypes.data_as(ctypes.c_void_p), count)
    return out


def test_pcg32_gives_its_authors_numbers(lib: ctypes.CDLL):
    """The first six of pcg32-demo, seeded there with 42 and 54: its stream is 54 * 2 + 1."""
    stream, step = 54 * 2 + 1, 6364136223846793005
    state = (((stream + 42) * step) + stream) % 2**64
    numbers = call(lib.pcg32, ctypes.c_uint64(state), ctypes.c_uint64(stream), dtype=np.uint32, count=6)
    assert numbers.tolist() == [0xa15c02b7, 0x7b47f409, 0xba1d3330, 0x83d2f293, 0xbfa4784b, 0xcbed606e]


def mix(x: int) -> int:
    """One output of SplitMix64."""
    x = (x + 0x9e3779b97f4a7c15) % 2**64
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9 % 2**64
    x = (x ^ x >> 27) * 0x94d049bb133111eb % 2**64
    return x ^ x >> 31


def test_seeding_stays_what_it_is(lib: ctypes.CDLL):
    """Recorded runs depend on it: the generator of (seed, index), told once more, skips one number of its stream."""
    key = mix(mix(12) ^ 34)
    bits = call(lib.pcg32, ctypes.c_uint64(key), ctypes.c_uint64(mix(key) | 1), dtype=np.uint32, count=9)[1:]
    expected = [4 * ((int(high) >> 5 << 26 | int(low) >> 6) * 2.0**-53) - 1 for high, low in bits.reshape(4, 2)]
    assert call(lib.doubles, ctypes.c_uint64(12), ctypes.c_uint64(34), count=4).tolist() == expected


def test_generators_are_uniform_and_unrelated(lib: ctypes.CDLL):
    count = 20_000
    streams = np.array([call(lib.doubles, ctypes.c_uint64(seed), ctypes.c_uint64(index), count=count)
                        for seed, index in ((0, 0), (0, 1), (1, 0), (1, 1), (2**64 - 1, 10**9))])
    assert streams.min() >= -1 and streams.max() < 3
    for row in streams:
        histogram = np.histogram(row, 20, (-1, 3))[0]
        assert ((histogram - count / 20)**2 / (count / 20)).sum() < 50  # chi square with 19 degrees, p = 1e-4
    assert np.abs(np.corrcoef(streams) - np.eye(5)).max() < 5 / np.sqrt(count)
    first = np.array([call(lib.doubles, ctypes.c_uint64(7), ctypes.c_uint64(i))[0] for i in range(2000)])
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 5 / np.sqrt(2000)  # nor do neighbours begin alike


@pytest.mark.parametrize("limit", [1, 3, 10, 2**31 + 1])
def test_below_is_unbiased(lib: ctypes.CDLL, limit: int):
    numbers = call(lib.below, ctypes.c_uint64(1), ctypes.c_uint32(limit), dtype=np.uint32, count=30_000)
    assert numbers.max() < limit
    bins = min(limit, 10)
    histogram = np.histogram(numbers, bins, (0, limit))[0]
    assert ((histogram - 30_000 / bins)**2 / (30_000 / bins)).sum() < 40  # 9 degrees, p = 1e-5


def test_below_rejects_what_would_favour_some(lib: ctypes.CDLL):
    """2^32 is 4/3 of this limit: scaling alone would give every third number twice as often as the others."""
    numbers = call(lib.below, ctypes.c_uint64(1), ctypes.c_uint32(3 * 2**30), dtype=np.uint32, count=30_000)
    assert np.abs(np.bincount(numbers % 3) - 10_000).max() < 400


def trig(lib: ctypes.CDLL, x: np.ndarray) -> list[np.ndarray]:
    outs = [np.zeros_like(x) for _ in range(3)]
    lib.trig(*(a.ctypes.data_as(ctypes.c_void_p) for a in (x, *outs)), len(x))
    return outs


def test_sine_and_cosine(lib: ctypes.CDLL):
    rng = np.random.default_rng(0)
    for scale, bound in ((0.8, 2.3e-16), (10, 4e-16), (1e4, 2e-15), (1e9, 1e-7)):
        x = np.append(rng.uniform(-scale, scale, 20_000), [0.0, -0.0, scale])
        sine, cosine, wrapped = trig(lib, x)
        assert np.abs(sine - np.sin(x)).max() <= bound and np.abs(cosine - np.cos(x)).max() <= bound
        assert np.abs(wrapped).max() <= np.pi * (1 + 1e-15) + scale * 1e-15
        assert np.abs(np.exp(1j * wrapped) - np.exp(1j * x)).max() <= 1e-15 + 4e-16 * scale


def test_sine_of_what_is_no_angle(lib: ctypes.CDLL):
    sine, cosine, _ = trig(lib, np.array([np.nan, np.inf, -np.inf, 1e12, -1e300]))
    assert np.isnan(sine).all() and np.isnan(cosine).all()


def test_angles_within_a_half_turn_stay_as_they_are(lib: ctypes.CDLL):
    x = np.array([np.pi, -np.pi, 3.0, 0.0])
    assert trig(lib, x)[2].tolist() == x.tolist()
