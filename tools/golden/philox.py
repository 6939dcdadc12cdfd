#!/usr/bin/env python3
"""Writes known answers of Philox 4x32-10: tests/golden/philox.json.

    python tools/golden/philox.py --out tests/golden

The function follows section 3.3 of Salmon et al. (SC 2011) for either word size. Before anything is written it must give
NumPy's words at 64 bits (numpy.random.Philox is Philox 4x64-10) and the words published with Random123 at 32 bits.
"""

import argparse
import json
import pathlib

import numpy as np

ROUND_MULTIPLIERS = {32: (0xD2511F53, 0xCD9E8D57), 64: (0xD2E7470EE14C6C93, 0xCA5A826395121157)}
KEY_INCREMENTS = {32: (0x9E3779B9, 0xBB67AE85), 64: (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)}

PUBLISHED = [  # kat_vectors of Random123: counter, key, words
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def philox(counter, key, bits, rounds=10):
    mask = (1 << bits) - 1
    right0, right1, left1, left0 = counter[1], counter[3], counter[2], counter[0]
    keys = list(key)
    for _ in range(rounds):
        high0, low0 = divmod(left0 * ROUND_MULTIPLIERS[bits][0], 1 << bits)
        high1, low1 = divmod(left1 * ROUND_MULTIPLIERS[bits][1], 1 << bits)
        left0, right0, left1, right1 = high1 ^ right0 ^ keys[0], low1, high0 ^ right1 ^ keys[1], low0
        keys = [(k + step) & mask for k, step in zip(keys, KEY_INCREMENTS[bits])]
    return left0, right0, left1, right1


def check_against_numpy(random):
    for _ in range(100):
        counter = [int(w) for w in random.integers(1, 2**63, 4)]
        key = [int(w) for w in random.integers(0, 2**63, 2)]
        # NumPy increments its counter before each block.
        before = np.array([counter[0] - 1] + counter[1:], dtype=np.uint64)
        numpy_words = np.random.Philox(counter=before, key=np.array(key, dtype=np.uint64)).random_raw(4)
        assert philox(counter, key, 64) == tuple(int(w) for w in numpy_words), "differs from NumPy at 64 bits"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder that receives philox.json")
    args = parser.parse_args()
    random = np.random.default_rng(2011)
    check_against_numpy(random)
    answers = []
    for counter, key, words in PUBLISHED:
        assert philox(counter, key, 32) == words, "differs from the published words"
        answers.append((counter, key, words))
    for _ in range(13):
        counter, key = ([int(w) for w in random.integers(0, 2**32, n)] for n in (4, 2))
        answers.append((counter, key, philox(counter, key, 32)))
    lines = ",\n".join(
        json.dumps(dict(counter=list(counter), key=list(key), words=list(words))) for counter, key, words in answers
    )
    header = f'"script": "tools/golden/philox.py",\n"numpy": "{np.__version__}",\n'
    (args.out / "philox.json").write_text("{\n" + header + '"answers": [\n' + lines + "\n]\n}\n")


if __name__ == "__main__":
    main()
