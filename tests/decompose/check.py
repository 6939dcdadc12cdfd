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

import uncertainty
from brute_force import decompose, steps_along

TOLERANCE = 1e-9  # relative

# An exact value that is a vanishing difference leaves only rounding. It is compared to the scale of that difference's
# terms instead of to itself.
VANISHING = {
    "lost_energy_ratio": 1e-12,
    "sampled_lost_norm_ratio": 2e-7,  # a root of a difference, as below
    "decomposition_error": 1e-12,
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


def nulls(value, name=""):
    """Names of all nulls."""
    if isinstance(value, dict):
        return [found for key, part in value.items() for found in nulls(part, f"{name}.{key}" if name else key)]
    if isinstance(value, list):
        return [found for i, part in enumerate(value) for found in nulls(part, f"{name}.{i}")]
    return [name] if value is None else []


def named_as_missing(text):
    """The names in `not_measured`: "NAME, NAME: REASON; NAME: REASON"."""
    return [name for entry in text.split("; ") for name in entry.split(": ")[0].split(", ")]


class Comparison:
    def __init__(self, expected, condition):
        self.faults = []
        self.expected = expected
        self.scale = {"energy": expected["logit_gradient_norm"] ** 2, "norm": expected["logit_gradient_norm"]}
        # Rounding one element of the head turns its column space by the rounding unit times its condition. It moves the
        # smallest singular value by the rounding of the largest. No algorithm, NumPy's either, can do better.
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

    def steps(self, name, found, wanted):
        """Losses after steps of equal norm. A turned column space moves the logits by so much more, the longer the step
        is. It shows in what large steps leave of the loss."""
        absolute = 1e-15 if self.rounding > TOLERANCE else 0
        if sorted(found) != sorted(wanted):
            self.faults.append(f"{name}: fields {sorted(set(found) ^ set(wanted))} are in one of the two only")
            return
        for key, value in wanted.items():
            where = f"{name}.{key}"
            if isinstance(value, dict) and isinstance(found[key], dict):
                self.steps(where, found[key], value)
            elif isinstance(value, list) and isinstance(found[key], list):
                self.list(where, found[key], value, absolute)
            elif isinstance(value, (int, float)) and isinstance(found[key], (int, float)):
                self.near(where, found[key], value, absolute=absolute)
            elif value is not None or found[key] is not None:
                self.faults.append(f"{where}: {found[key]}, expected {value}")

    def tree(self, name, found, wanted):
        """Intervals and controls: objects, lists, names and numbers."""
        if isinstance(wanted, dict) and isinstance(found, dict) and sorted(found) == sorted(wanted):
            for key, value in wanted.items():
                self.tree(f"{name}.{key}", found[key], value)
        elif isinstance(wanted, list) and isinstance(found, list) and len(found) == len(wanted):
            for i, value in enumerate(wanted):
                self.tree(f"{name}.{i}", found[i], value)
        elif isinstance(wanted, (int, float)) and isinstance(found, (int, float)):
            root = 2e-7 if ".lost_" in name and wanted < 1e-6 else 0  # of a difference that vanishes
            self.near(name, found, wanted, absolute=root or (1e-9 if "deviation" in name else 0))
        elif found != wanted:
            self.faults.append(f"{name}: {found}, expected {wanted}")

    def run(self, found):
        found = dict(found)
        missing = nulls(self.expected)
        if missing and sorted(named_as_missing(found.pop("not_measured", ""))) != sorted(missing):
            self.faults.append(f"not_measured does not name {missing}")
        if sorted(found) != sorted(self.expected):
            self.faults.append(f"fields {sorted(set(found) ^ set(self.expected))} are in one of the two only")
            return self.faults
        for name, wanted in self.expected.items():
            value = found[name]
            if value is None or wanted is None:
                if value is not wanted:
                    self.faults.append(f"{name}: {value}, expected {wanted}")
            elif name in ("shards", "buckets"):
                self.parts(name, value, wanted)
            elif name == "equal_norm_steps":
                self.steps(name, value, wanted)
            elif name in ("bootstrap", "controls"):
                self.tree(name, value, wanted)
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
                if name in ("lost_norm_ratio", "sampled_lost_norm_ratio") and value > 1e-6:
                    vanishing = 0.0
                self.near(name, value, wanted, absolute=vanishing)
        return self.faults


def perturbed(found):
    """One copy for every figure, with that figure wrong by a part in ten million (a count by one)."""
    for name, value in found.items():
        if name == "not_measured":
            continue
        if name == "equal_norm_steps":
            yield from perturbed_steps(found)
            continue
        if name in ("bootstrap", "controls"):
            yield from perturbed_tree(found, name)
            continue
        copy = json.loads(json.dumps(found))
        if value is None:
            copy[name] = 0.0
        elif name.endswith("_histogram"):
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
            copy[name] += 1e-6 if "lost" in name else 1e-7
            if name == "lost_gradient_norm":
                copy[name] += 1e-5 * found["logit_gradient_norm"]
        else:
            copy[name] = value * (1 + 1e-7) if value else 1e-7
        yield name, copy


def leaves(value, path=()):
    """The path of every figure."""
    if not isinstance(value, (dict, list)):
        yield path
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(part, path + (key,))


def perturbed_steps(found):
    """The same for every figure of the steps."""
    for path in leaves(found["equal_norm_steps"]):
        copy = json.loads(json.dumps(found))
        holder = copy["equal_norm_steps"]
        for key in path[:-1]:
            holder = holder[key]
        value = holder[path[-1]]
        holder[path[-1]] = 0.0 if value is None else value * (1 + 1e-7) + 1e-12
        yield ".".join(map(str, ("equal_norm_steps",) + path)), copy


def wrong_value(value, lost):
    if value is None or isinstance(value, str):
        return 0.0
    if isinstance(value, int):
        return value + 1
    return value + np.copysign(1e-7 * abs(value) + (1e-6 if lost else 1e-8), value)


def perturbed_tree(found, name):
    """The same for every figure of the intervals, or of the controls."""
    for path in leaves(found[name]):
        copy = json.loads(json.dumps(found))
        holder = copy[name]
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = wrong_value(holder[path[-1]], any(str(key).startswith("lost_") for key in path))
        yield ".".join(map(str, (name,) + path)), copy


def random_case(seed, tokens, vocabulary, width, dtype=np.float64, spread=1.0):
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((tokens, width)) + 0.3
    head = rng.standard_normal((vocabulary, width)) * spread / width**0.5
    # The tokens follow Zipf's law, as in text.
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


def times(case, **factors):
    """The case with each named tensor multiplied by a number, or by one for each row or column."""
    return {**case, **{name: case[name] * factor for name, factor in factors.items()}}


def extremes():
    """name, case: tensors whose squares are beyond float64, and which have sound figures all the same."""
    plain = random_case(21, 60, 90, 8)
    yield "head 1e-155", times(plain, head=1e-155)
    yield "head 1e154", times(plain, head=1e154)
    yield "head 1e300", times(plain, head=1e300)
    yield "head of subnormal numbers", times(plain, head=1e-312)
    yield "hidden 1e160, head 1e-160", times(plain, hidden=1e160, head=1e-160)
    yield "hidden 1e-250, head 1e250", times(plain, hidden=1e-250, head=1e250)
    yield "hidden 1e-200", times(plain, hidden=1e-200)
    rows = np.ones((90, 1))
    rows[3], rows[7] = 0, 1e-200
    yield "a row of zeros and a small one", times(plain, head=rows)
    yield "the same in a small head", times(plain, head=rows * 1e-120)
    tokens = np.ones((60, 1))
    tokens[5], tokens[8] = 0, 1e-180
    yield "hidden states of zeros and small ones", times(plain, hidden=tokens)
    columns = np.ones(8)
    columns[2] = 1e-170
    yield "a small column", times(plain, head=columns)
    yield "a small column, large hidden states", times(plain, head=columns, hidden=1 / columns)
    factors = factorised(22, 60, 90, 5, 12)
    yield "up 1e200, down 1e-200", times(factors, up=1e200, down=1e-200)
    yield "up 1e-160, down 1e-10", times(factors, up=1e-160, down=1e-10)
    yield "up 1e-120, down 1e110, hidden 1e5", times(factors, up=1e-120, down=1e110, hidden=1e5)
    mixed = np.array([1e-190, 1e190, 1, 1e30, 1e-140])
    yield "mixed columns of up", times(factors, up=mixed, down=1 / mixed[:, None])


def refused():
    """name, case, what the message says: no figures, status 2."""
    plain, factors = random_case(23, 40, 50, 6), factorised(24, 40, 50, 4, 9)
    yield "logits overflow", times(plain, hidden=1e200, head=1e200), ["hidden.npy", "head.npy", "row 0 times row 0"]
    one = np.ones((40, 1))
    one[33] = 1e200
    yield "a token's do", times(plain, hidden=one, head=1e150), ["hidden.npy: row 33 times row 0 of ", "head.npy"]
    yield "through factors", times(factors, hidden=1e150, up=1e100, down=1e100), ["hidden.npy", "up.npy", "down.npy"]
    wide = times(plain, hidden=0.0, head=0.0)
    wide["hidden"][:, 0], wide["targets"][:] = 1, 1
    wide["head"][0, 0], wide["head"][1, 0] = 1.5e308, -1.5e308
    yield "a loss overflows", wide, ["hidden.npy: row 0 has a loss of inf with "]
    for key, source in (("hidden", plain), ("head", plain), ("up", factors), ("down", factors)):
        broken = {**source, key: source[key].copy()}
        broken[key][2, 3] = np.nan
        yield f"nan in {key}", broken, [f"{key}.npy: element (2, 3) is nan"]


def with_counts(case):
    case["counts"] = np.random.default_rng(5).integers(0, 1000, len(case["head"]))
    return case


def without_steps(case):
    return {**case, "steps": False}


def resampled(case, block=8, resamples=150, draws=3):
    """The same with intervals and controls; a block of 0 is that of the program."""
    return {**case, "steps": False, "uncertain": {"block": block, "resamples": resamples, "draws": draws}}


def with_loss(case, **form):
    """The same logits under another loss: a cap, a z-loss, or a bias of a deviation of 2."""
    if form.pop("bias", False):
        vocabulary = len(case["head"] if "head" in case else case["up"])
        case["bias"] = np.random.default_rng(6).normal(0, 2, (vocabulary, 1))
    return {**case, "form": form}


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
    yield "large", random_case(13, 500, 3001, 48), 10, [(1, 1, False), (2, 2, True)]
    yield "capped", with_loss(random_case(31, 70, 131, 9), soft_cap=1.5), 10, alone + few
    yield "z-loss", with_loss(random_case(32, 70, 131, 9), z_loss=0.03), 10, alone + few
    yield "bias", with_loss(random_case(33, 70, 131, 9), bias=True), 10, alone + few
    yield ("factorised, capped, with z-loss and bias",
           with_loss(factorised(34, 70, 110, 6, 15), soft_cap=4, z_loss=0.02, bias=True), 10, alone + few)
    yield "without steps", without_steps(random_case(15, 70, 110, 9)), 10, alone + few
    yield from uncertain_cases()
    for number, (name, case) in enumerate(extremes()):
        more = few if number % 7 == 0 else [(2, 3, False)] if number % 4 == 1 else []
        yield name, case, 10, [(1, 1, False)] + more
    yield "a loss of 1e-125", times(certain(), hidden=0.5), 10, alone
    yield "the same, large hidden states", times(certain(), hidden=2.0**59, head=2.0**-60), 10, alone[:1]
    yield "sampled", {**random_case(14, 101, 150, 6), "sample_tokens": 30}, 10, [(1, 1, False), (3, 4, False), (1, 3, True)]


def uncertain_cases():
    """As cases(), with intervals and controls."""
    alone, few = [(1, 1, False)], [(3, 2, False), (2, 2, True)]
    everything = [(1, 1, False), (2, 1, False), (1, 2, False), (2, 2, False), (3, 1, False)]
    everything += [(2, 1, True), (1, 2, True), (2, 2, True), (3, 1, True)]
    yield "intervals and controls", resampled(random_case(41, 67, 131, 16)), 10, everything
    yield ("intervals, factorised, capped, with z-loss and bias",
           resampled(with_loss(factorised(42, 70, 110, 6, 15), soft_cap=4, z_loss=0.02, bias=True)), 10, alone + few)
    yield "intervals, deficient", resampled(deficient(43, 60, 90, 14, 9), block=1), 10, alone + few
    yield "intervals, with counts", resampled(with_counts(random_case(44, 70, 2003, 10)), block=11), 10, alone
    yield "intervals, fewer tokens than features", resampled(random_case(45, 5, 61, 12), block=2), 10, alone + few
    yield "intervals, tiny vocabulary", resampled(random_case(46, 40, 5, 12), block=7), 10, alone + few
    yield "intervals, all of the blocks' own", resampled(random_case(47, 600, 1003, 20), block=0), 10, alone + few
    wild = dict(extremes())
    for name in ("head 1e-155", "hidden 1e160, head 1e-160", "mixed columns of up"):
        yield f"intervals, {name}", resampled(wild[name]), 10, [(2, 3, False)]


OPTIONS = {"hidden": "hidden", "head": "head", "up": "head-up", "down": "head-down", "bias": "head-bias",
           "targets": "targets", "counts": "counts"}


class Program:
    def __init__(self, program, mpirun, folder):
        self.program, self.mpirun, self.folder = program, mpirun, folder
        self.environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        self.environment.setdefault("OMP_NUM_THREADS", "1")

    def save(self, case):
        """The options that name the case's tensors."""
        options = []
        for key, option in OPTIONS.items():
            if key in case:
                np.save(f"{self.folder}/{key}.npy", case[key])
                options += [f"--{option}", f"{self.folder}/{key}.npy"]
        steps = ["--equal-norm-steps"] if case.get("steps", True) else []
        form = [f"--{key.replace('_', '-')}={value}" for key, value in case.get("form", {}).items()]
        if "uncertain" in case:
            block, resamples, draws = case["uncertain"].values()
            form += ["--bootstrap", str(resamples), "--controls", str(draws)] + (["--block", str(block)] if block else [])
        return options + form + steps + ["--sample-tokens", str(case.get("sample_tokens", 2048))]

    def run(self, options, tensor, data, distributed, **more):
        ranks = ["--oversubscribe", "--bind-to", "none", "-n", str(tensor * data)]
        launcher = [self.mpirun] + ranks if distributed else []
        command = [self.program, "decompose", "--json", f"{self.folder}/out.json"]
        return subprocess.run(launcher + command + options + ["--tensor", str(tensor), "--data", str(data)],
                              env=self.environment, **more)

    def figures(self):
        with open(f"{self.folder}/out.json") as file:
            return json.load(file)


def expected_figures(case, tensors, tensor, sample):
    steps = steps_along if case.get("steps", True) else None
    form = case.get("form", {})
    expected = decompose(**tensors, tensor=tensor, sample_tokens=sample, steps=steps, **form)
    if "uncertain" in case:
        block, resamples, draws = case["uncertain"].values()
        expected.update(uncertainty.uncertainty(tensors, form, block or 256, resamples, draws))
    return expected


def check_figures(program):
    runs, wrong = 0, []
    for name, case, condition, meshes in cases():
        options = program.save(case)
        sample = case.get("sample_tokens", 2048)
        tensors = {key: case.get(key) for key in OPTIONS}
        expectations = {}  # by tensor ranks, on which shards depend
        for place, (tensor, data, distributed) in enumerate(meshes):
            program.run(options, tensor, data, distributed, check=True)
            found = program.figures()
            if tensor not in expectations:
                expectations[tensor] = expected_figures(case, tensors, tensor, sample)
            expected = expectations[tensor]
            faults = Comparison(expected, condition).run(found)
            # Figures of all meshes have the same fields.
            for key, copy in perturbed(found) if place == 0 else ():
                if not Comparison(expected, condition).run(copy):
                    faults.append(f"{key}: a fault went unnoticed")
            where = f"{name}, tensor {tensor}, data {data}{', distributed' if distributed else ''}"
            wrong += [f"{where}: {fault}" for fault in faults]
            runs += 1
    return runs, wrong


def wrong_steps():
    """name, what makes the steps of brute_force.py wrong: every one must show."""

    def with_direction(name, other):
        return lambda directions, logits, targets: steps_along({**directions, name: other(directions)}, logits, targets)

    yield "A Wᵀ for G_∥", with_direction("visible", lambda x: x["hidden"])
    yield "G_∥ for A Wᵀ", with_direction("hidden", lambda x: x["visible"])
    yield "G_⊥ for G_∥", with_direction("visible", lambda x: x["full"] - x["visible"])
    yield "G for its best approximation", with_direction("best_rank", lambda x: x["full"])

    def of_half_the_rank(x):
        left, singular, right = np.linalg.svd(x["best_rank"], full_matrices=False)
        rank = np.linalg.matrix_rank(x["best_rank"]) // 2
        return (left[:, :rank] * singular[:rank]) @ right[:rank]

    yield "the best approximation of rank D", with_direction("best_rank", of_half_the_rank)
    yield "steps uphill", lambda directions, *rest: steps_along({name: -x for name, x in directions.items()}, *rest)
    yield "not of equal norm", lambda *all: steps_along(*all, norm=lambda x: 1)
    yield "tokens of equal norm", lambda *all: steps_along(
        *all, norm=lambda x: np.linalg.norm(x, axis=1, keepdims=True) * len(x) ** 0.5)
    yield "norms of the largest numbers", lambda *all: steps_along(*all, norm=lambda x: np.abs(x).max())
    yield "norms by token", lambda *all: steps_along(*all, norm=lambda x: np.linalg.norm(x) / len(x) ** 0.5)


def check_steps(program):
    """Wrong steps in the expectation do not agree with the program's."""
    case = random_case(27, 80, 120, 12)
    program.run(program.save(case), 2, 2, False, check=True)
    found, tensors, wrong = program.figures(), {key: case[key] for key in ("hidden", "head", "targets")}, []
    if Comparison(decompose(**tensors, tensor=2), 10).run(found):
        wrong.append("equal-norm steps: the figures differ")
    for name, steps in wrong_steps():
        faults = Comparison(decompose(**tensors, tensor=2, steps=steps), 10).run(found)
        if not faults or not all(fault.startswith("equal_norm_steps.") for fault in faults):
            wrong.append(f"equal-norm steps: {name} went unnoticed")
    return 1, wrong


def wrong_uncertainty(head, counts, block, resamples, draws):
    """name, the intervals or the controls of another definition: every one must show."""
    u = uncertainty
    yield "resamples of tokens", {"bootstrap": {**u.bootstrap(head, counts, 1, resamples), "blocks": -(-len(head.hidden) // block),
                                                "block_tokens": block}}
    yield "resamples of other draws", {"bootstrap": u.bootstrap(
        head, counts, block, resamples, draw=lambda resample, count: u.draw_blocks(resample + 1000, count))}
    yield "without replacement", {"bootstrap": u.bootstrap(
        head, counts, block, resamples, draw=lambda resample, count: np.unique(u.draw_blocks(resample, count)))}
    yield "another random head", {"controls": u.controls(head, draws, basis=lambda of, draw: u.random_basis(of, draw + 1))}
    yield "columns that are not orthonormal", {"controls": u.controls(
        head, draws, basis=lambda of, draw: u.normals(u.CONTROL_HEAD, draw, of.vocabulary, of.rank) / of.vocabulary**0.5)}
    yield "hidden states of mean 0", {"controls": u.controls(
        head, draws, hidden=lambda of, draw: u.gaussian_hidden(of, draw) - of.hidden.mean(axis=0))}
    yield "the uncentred covariance", {"controls": u.controls(
        head, draws, hidden=lambda of, draw: u.gaussian_hidden(of, draw, centre=False) + of.hidden.mean(axis=0))}
    yield "hidden states of no covariance", {"controls": u.controls(
        head, draws, hidden=lambda of, draw: u.normals(u.CONTROL_HIDDEN, draw, *of.hidden.shape)
        * of.hidden.std(axis=0) + of.hidden.mean(axis=0))}


def check_uncertainty(program):
    """Other definitions of intervals and controls do not agree with the program's."""
    block, resamples, draws = 8, 60, 3
    case = resampled(random_case(48, 67, 131, 16), block, resamples, draws)
    program.run(program.save(case), 2, 2, False, check=True)
    found, tensors, wrong = program.figures(), {key: case[key] for key in ("hidden", "head", "targets")}, []
    right = {**decompose(**tensors, tensor=2, steps=None),
             **uncertainty.uncertainty(tensors, {}, block, resamples, draws)}
    wrong += Comparison(right, 10).run(found)
    head = uncertainty.Head(**tensors)
    counts = np.bincount(head.targets, minlength=head.vocabulary)
    for name, other in wrong_uncertainty(head, counts, block, resamples, draws):
        faults = Comparison({**right, **other}, 10).run(found)
        if not faults or not all(fault.startswith(tuple(other)) for fault in faults):
            wrong.append(f"intervals and controls: {name} went unnoticed")
    return 1, wrong + check_place(program)


def check_place(program):
    """A random head lies among the draws, and one whose columns follow the gradient far above them."""
    wrong = []
    # Large logits lean the gradient towards a head, also towards a random one. Small ones hardly move it.
    case = resampled(times(random_case(49, 200, 300, 6), head=1e-3), 20, 50, 12)
    program.run(program.save(case), 1, 1, False, check=True)
    place = program.figures()["controls"]["random_head"]
    if not (abs(place["deviations_above"]) < 3 and 0 < place["draws_below"] < 12):
        wrong.append(f"a random head: {place}")
    # The columns are the first right singular vectors of the gradient of logits that are zero.
    gradient = np.full((200, 300), 1 / 300)
    gradient[np.arange(200), case["targets"]] -= 1
    case["head"] = 1e-3 * np.linalg.svd(gradient, full_matrices=False)[2][:6].T
    program.run(program.save(case), 1, 1, False, check=True)
    place = program.figures()["controls"]["random_head"]
    if not (place["deviations_above"] > 20 and place["draws_below"] == 12):
        wrong.append(f"an aligned head: {place}")
    return wrong


def check_refused(program):
    runs, wrong = 0, []
    for number, (name, case, parts) in enumerate(refused()):
        options = program.save(case)
        for tensor, data, distributed in [(1, 1, False)] + ([(2, 2, True)] if number == 1 else []):
            done = program.run(options, tensor, data, distributed, capture_output=True, text=True)
            said = done.stdout + done.stderr
            if done.returncode != 2 or not all(part in said for part in parts):
                wrong.append(f"{name}, tensor {tensor}, data {data}: status {done.returncode}, said {said!r}")
            runs += 1
    return runs, wrong


def certain():
    """Tokens predicted with a loss of 1e-252: squares of the gradient are below float64."""
    rng = np.random.default_rng(26)
    targets = rng.integers(0, 20, 40)
    head = np.delete(np.eye(30) + 0.01 * rng.standard_normal((30, 30)), slice(20, 30), axis=1)
    return {"hidden": np.eye(20)[targets] * 600, "head": head, "targets": targets}


def check_missing(program):
    """A head of zeros has figures; what is beyond float64 is named with the reason."""
    plain, wrong = random_case(25, 30, 40, 16), []
    program.run(program.save(times(plain, head=0.0)), 1, 1, False, check=True)
    zero = program.figures()
    through_head = ["equal_norm_steps.visible", "equal_norm_steps.hidden"]
    if (nulls(zero) != ["head_row_anisotropy"] + through_head or zero["head_numerical_rank"] != 0
            or zero["lost_norm_ratio"] != 1):
        wrong.append(f"a head of zeros: {nulls(zero)} are null, rank {zero['head_numerical_rank']}")
    if not zero["not_measured"].endswith("; " + ", ".join(through_head) + ": the head has a rank of 0 and passes "
                                         "nothing on"):
        wrong.append(f"a head of zeros: not_measured {zero['not_measured']}")
    large = times(plain, hidden=1e-308, head=1e308 / np.abs(plain["head"]).max())
    program.run(program.save(large), 1, 1, False, check=True)
    found = program.figures()
    missing = found.get("not_measured", "").split(": ")
    named = sorted(missing[0].split(", ")) == sorted(nulls(found))
    if not nulls(found) or not named or "range of float64" not in missing[-1]:
        wrong.append(f"singular values beyond float64: {nulls(found)} are null, not_measured {missing}")
    program.run(program.save(certain()), 1, 1, False, check=True)
    found = program.figures()
    for name in ("logit_gradient_norm", "visible_cosine", "lost_norm_ratio", "update_cosine", "decomposition_error",
                 "best_rank_energy_ratio", "target_energy_share", "components_for_70_percent",
                 "components_for_99_9_percent"):
        if found[name] is not None or "squares of the logit gradient" not in found.get("not_measured", ""):
            wrong.append(f"squares that vanish: {name} {found[name]}, not_measured {found.get('not_measured')}")
    runs, faults = check_missing_steps(program)
    return 3 + runs, wrong + faults


def check_missing_steps(program):
    """Steps that cannot be taken are null, each with the reason; on every mesh."""
    rng = np.random.default_rng(28)
    # Rows of G sum up to 0, so a head whose rows are all alike passes on nothing but rounding.
    alike = {"hidden": rng.standard_normal((30, 2)), "head": np.ones((40, 1)) * [[1.0, 2.0]],
             "targets": rng.integers(0, 40, 30)}
    both, every = ["visible", "hidden"], ["full", "visible", "hidden", "best_rank"]
    vanish = "squares of the sampled tokens' logit gradient are below the range of fp64"
    runs, wrong = 0, []
    for name, case, missing, reason in (
            ("rows that are alike", alike, both, "rounding hides what the head passes on"),
            ("a loss of 1e-252", certain(), every, vanish),
            ("a loss of zero", times(certain(), hidden=10.0), every, vanish)):
        for tensor, data, distributed in [(1, 1, False), (3, 2, False), (2, 2, True)]:
            program.run(program.save(case), tensor, data, distributed, check=True)
            found = program.figures()
            steps, text = found["equal_norm_steps"], found.get("not_measured", "")
            names = [f"equal_norm_steps.{direction}" for direction in missing]
            if (nulls(steps) != missing or f"{', '.join(names)}: {reason}" not in text
                    or not np.isfinite(steps["loss_before"])):
                wrong.append(f"{name}, tensor {tensor}, data {data}: {steps}, not_measured {text}")
            runs += 1
    return runs, wrong


def main():
    runs, wrong = 0, []
    with tempfile.TemporaryDirectory() as folder:
        for check in (check_figures, check_steps, check_uncertainty, check_refused, check_missing):
            more, faults = check(Program(*sys.argv[1:3], folder))
            runs += more
            wrong += faults
    print("\n".join(wrong + [f"{runs} runs, {len(wrong)} faults"]))
    return 0 if not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
