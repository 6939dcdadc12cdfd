"""Runs `isthmus decompose` on dumped tensors of many kinds, alone and under mpirun, and compares every field with
brute_force.py.

    check.py PROGRAM MPIRUN

Ends with status 0 when all agree, and each comparison noticed a fault that was put into it."""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np

from brute_force import decompose

TOLERANCE = 1e-9  # relative

# Where the exact value is a difference that vanishes, rounding is all there is: compared to the scale that it is a
# difference of instead of to itself.
VANISHING = {
    "lost_energy_ratio": 1e-12,
    "lost_norm_ratio": 2e-7,  # a root of the above
    "lost_gradient_norm": None,  # the same, times the gradient's norm
    "hidden_anisotropy": 1e-12,
    "hidden_centred_anisotropy": 1e-12,
    "head_row_anisotropy": 1e-12,
    "head_singular_entropy": 1e-12,
    "head_error_ratio_at_eighth": 1e-12,
    "head_error_ratio_at_quarter": 1e-12,
    "head_error_ratio_at_half": 1e-12,
}


class Comparison:
    def __init__(self, expected, condition):
        self.faults = []
        self.expected = expected
        self.scale = {"energy": expected["logit_gradient_norm"] ** 2, "norm": expected["logit_gradient_norm"]}
        # The rounding of one element of the head turns its column space by the rounding unit times its condition, and
        # moves the smallest singular value by the rounding of the largest: no algorithm, NumPy's either, can do better.
        self.rounding = np.finfo(float).eps * condition
        self.tolerance, self.condition_tolerance = max(TOLERANCE, self.rounding), max(TOLERANCE, 64 * self.rounding)

    def near(self, name, found, wanted, relative=None, absolute=0.0):
        if not abs(found - wanted) <= (relative or self.tolerance) * abs(wanted) + absolute:
            self.faults.append(f"{name}: found {found!r}, expected {wanted!r}")

    def list(self, name, found, wanted, absolute):
        if len(found) != len(wanted):
            self.faults.append(f"{name}: {len(found)} elements, expected {len(wanted)}")
            return
        for i, (a, b) in enumerate(zip(found, wanted)):
            self.near(f"{name}[{i}]", a, b, absolute=absolute)

    def parts(self, name, found, wanted):
        if len(found) != len(wanted):
            self.faults.append(f"{name}: {len(found)} elements, expected {len(wanted)}")
            return
        for i, (a, b) in enumerate(zip(found, wanted)):
            if sorted(a) != sorted(b):
                self.faults.append(f"{name}[{i}]: fields {sorted(set(a) ^ set(b))} are in one of the two only")
                continue
            for key in b:
                if key == "bucket":
                    if a[key] != b[key]:
                        self.faults.append(f"{name}[{i}].{key}: {a[key]}, expected {b[key]}")
                    continue
                # Turned, the column space takes up some of what is lost of all rows.
                turned = self.rounding * self.scale["norm"] * b[key] ** 0.5 if key == "retained_energy" else 0
                exact = key in ("rows", "most_frequent_percent")
                self.near(f"{name}[{i}].{key}", a[key], b[key],
                          absolute=0 if exact else turned + 1e-14 * self.scale["energy"])

    def run(self, found):
        if sorted(found) != sorted(self.expected):
            self.faults.append(f"fields {sorted(set(found) ^ set(self.expected))} are in one of the two only")
            return self.faults
        for name, wanted in self.expected.items():
            value = found[name]
            if name in ("shards", "buckets"):
                self.parts(name, value, wanted)
            elif name.endswith("_histogram"):
                self.list(name + ".bounds", value["bounds"], wanted["bounds"], 0)
                self.list(name + ".counts", value["counts"], wanted["counts"], 0)
                self.near(name + ".sum", value["sum"], wanted["sum"])
            elif name == "sampled_singular_values":  # roots of eigenvalues
                self.list(name, value, wanted, 1e-7 * wanted[0])
            elif name == "head_singular_values":
                self.list(name, value, wanted, 1e-13 * wanted[0])
            elif name == "head_condition":
                self.near(name, value, wanted, self.condition_tolerance)
            elif name == "lost_gradient_norm":
                self.near(name, value, wanted, absolute=2e-7 * self.scale["norm"] if value < 1e-6 * self.scale["norm"] else 0)
            else:
                vanishing = VANISHING.get(name, 0.0)
                if name == "lost_norm_ratio" and value > 1e-6:
                    vanishing = 0.0
                self.near(name, value, wanted, absolute=vanishing)
        return self.faults


def perturbed(found):
    """One copy for every figure, with that figure wrong by a part in ten million (a count by one)."""
    for name, value in found.items():
        copy = json.loads(json.dumps(found))
        if name.endswith("_histogram"):
            copy[name]["counts"][0] += 1
        elif name in ("shards", "buckets"):
            copy[name][-1]["retained_energy"] *= 1 + 1e-6
        elif isinstance(value, list):
            copy[name][0] *= 1 + 1e-6
        elif isinstance(value, int):
            copy[name] = value + 1
        elif name == "head_condition":
            copy[name] *= 1 + 1e-5
        elif name in VANISHING:
            copy[name] += 1e-6 if name.startswith("lost") else 1e-7
            if name == "lost_gradient_norm":
                copy[name] += 1e-5 * found["logit_gradient_norm"]
        else:
            copy[name] = value * (1 + 1e-7) if value else 1e-7
        yield name, copy


def random_case(seed, tokens, vocabulary, width, dtype=np.float64, spread=1.0):
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((tokens, width)) + 0.3
    head = rng.standard_normal((vocabulary, width)) * spread / width**0.5
    # Zipf's law, as in text.
    weights = 1 / np.arange(1, vocabulary + 1)
    targets = rng.choice(vocabulary, tokens, p=weights / weights.sum())
    return {"hidden": hidden.astype(dtype), "head": head.astype(dtype), "targets": targets}


def conditioned(seed, tokens, vocabulary, width, condition):
    """A head whose singular values fall evenly (by ratio) from 1 to 1/condition."""
    case = random_case(seed, tokens, vocabulary, width)
    left, _, right = np.linalg.svd(case["head"], full_matrices=False)
    case["head"] = (left * np.geomspace(1, 1 / condition, width)) @ right * 5
    return case


def deficient(seed, tokens, vocabulary, width, rank):
    case = random_case(seed, tokens, vocabulary, width)
    rng = np.random.default_rng(seed + 1)
    case["head"] = rng.standard_normal((vocabulary, rank)) @ rng.standard_normal((rank, width)) / width
    return case


def factorised(seed, tokens, vocabulary, rank, width, deficient_down=False):
    case = random_case(seed, tokens, vocabulary, width)
    rng = np.random.default_rng(seed + 1)
    del case["head"]
    case["up"], case["down"] = rng.standard_normal((vocabulary, rank)), rng.standard_normal((rank, width)) / width**0.5
    if deficient_down:
        case["down"][-1] = case["down"][0]
    return case


def with_counts(case):
    case["counts"] = np.random.default_rng(5).integers(0, 1000, len(case["head"]))
    return case


def cases():
    """name, case, its condition, [(tensor, data, really distributed)], more options."""
    alone, few = [(1, 1, False), (3, 2, False)], [(2, 2, True)]
    everything = [(t, r, False) for t in (1, 2, 3, 4) for r in (1, 2, 3)]
    everything += [(2, 1, True), (1, 2, True), (3, 1, True), (1, 3, True), (4, 1, True), (2, 2, True)]
    yield "random", random_case(1, 67, 131, 16), 10, everything
    yield "float32", random_case(2, 50, 97, 8, np.float32), 10, alone
    yield "fewer tokens than features", random_case(3, 5, 61, 12), 10, alone
    yield "one token", random_case(4, 1, 40, 6), 10, alone[:1]
    yield "tiny vocabulary", random_case(5, 40, 5, 12), 10, [(1, 1, False), (4, 3, False), (2, 2, True)]
    yield "deficient", deficient(6, 60, 90, 14, 9), 10, alone + few
    yield "condition 1e8", conditioned(7, 80, 120, 16, 1e8), 1e8, alone + few
    yield "condition 1e5", conditioned(8, 80, 400, 32, 1e5), 1e5, alone
    yield "peaked", random_case(9, 60, 90, 8, spread=40), 10, alone
    yield "counts", with_counts(random_case(10, 70, 2003, 10)), 10, alone
    yield "factorised", factorised(11, 70, 110, 6, 15), 10, alone + few
    yield "factorised, deficient down", factorised(12, 70, 110, 6, 15, True), 10, alone
    yield "large", random_case(13, 700, 5003, 64), 10, [(1, 1, False), (3, 2, False), (2, 2, True)]
    yield "sampled", {**random_case(14, 101, 150, 6), "sample_tokens": 30}, 10, [(1, 1, False), (3, 4, False), (1, 3, True)]


def main():
    program, mpirun = sys.argv[1:3]
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    environment.setdefault("OMP_NUM_THREADS", "1")
    runs = faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, case, condition, meshes in cases():
            command = [program, "decompose", "--json", f"{folder}/out.json"]
            options = {"hidden": "hidden", "head": "head", "up": "head-up", "down": "head-down", "targets": "targets",
                       "counts": "counts"}
            for key, option in options.items():
                if key in case:
                    np.save(f"{folder}/{key}.npy", case[key])
                    command += [f"--{option}", f"{folder}/{key}.npy"]
            sample = case.get("sample_tokens", 2048)
            command += ["--sample-tokens", str(sample)]
            tensors = {key: case.get(key) for key in ("hidden", "head", "targets", "counts", "up", "down")}
            for tensor, data, distributed in meshes:
                launcher = [mpirun, "--oversubscribe", "--bind-to", "none", "-n", str(tensor * data)] if distributed else []
                subprocess.run(launcher + command + ["--tensor", str(tensor), "--data", str(data)], check=True,
                               env=environment)
                with open(f"{folder}/out.json") as file:
                    found = json.load(file)
                expected = decompose(**tensors, tensor=tensor, sample_tokens=sample)
                wrong = Comparison(expected, condition).run(found)
                for key, copy in perturbed(found):
                    if not Comparison(expected, condition).run(copy):
                        wrong.append(f"{key}: a fault went unnoticed")
                where = f"{name}, tensor {tensor}, data {data}{', distributed' if distributed else ''}"
                for text in wrong:
                    print(f"{where}: {text}")
                runs += 1
                faults += len(wrong)
    print(f"{runs} runs, {faults} faults")
    return 0 if faults == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
