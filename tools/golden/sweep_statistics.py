"""Statistics of few values, by SciPy. Prints what tests/launch/sweep/statistics_test.cc expects.

    python3 -m venv env && env/bin/pip install scipy && env/bin/python tools/golden/sweep_statistics.py
"""

import itertools

import numpy as np
from scipy import stats

SAMPLES = {
    "kTwo": [0.013, -0.004],
    "kThree": [3.2411, 3.2398, 3.2457],
    "kFive": [-0.0213, -0.0187, 0.0042, -0.0305, -0.0111],
    "kSix": [1.0, 1.0, 2.0, 3.5, -2.25, 1.0],
}


def bootstrap(values, confidence):
    means = [np.mean(sample) for sample in itertools.product(values, repeat=len(values))]
    return np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])


print("// probability, degrees, quantile")
for probability, degrees in [(0.975, 1), (0.975, 2), (0.975, 4), (0.95, 9), (0.995, 30), (0.025, 4), (0.6, 3), (0.9999, 2)]:
    print(f"    {{{probability}, {degrees}, {float(stats.t.ppf(probability, degrees))!r}}},")
print("// t, degrees, two-sided probability")
for t, degrees in [(0.0, 3), (0.5, 1), (-2.2, 4), (7.5, 2), (40.0, 5), (1e-4, 12)]:
    print(f"    {{{t}, {degrees}, {float(2 * stats.t.sf(abs(t), degrees))!r}}},")
print("// mean, deviation, Student's interval, resamples' interval, probability, at 95 % and 80 %")
for name, values in SAMPLES.items():
    for confidence in (0.95, 0.8):
        mean, error, count = np.mean(values), stats.sem(values), len(values)
        student = stats.t.interval(confidence, count - 1, loc=mean, scale=error)
        low, high = bootstrap(values, confidence)
        found = [confidence, mean, np.std(values, ddof=1), *student, low, high, stats.ttest_1samp(values, 0).pvalue]
        print(f"    {{{name}, " + ", ".join(repr(float(x)) for x in found) + "},")
print("// the lowest point of a parabola in log rate: rates, losses, rate, loss")
for rates, losses in [((1e-3, 3e-3, 1e-2), (4.1, 3.9, 4.3)), ((2e-4, 1e-3, 2e-3), (3.52, 3.41, 3.44))]:
    a, b, c = np.polyfit(np.log(rates), losses, 2)
    print(f"    {{{{{rates[0]}, {losses[0]}}}, {{{rates[1]}, {losses[1]}}}, {{{rates[2]}, {losses[2]}}}, "
          f"{float(np.exp(-b / (2 * a)))!r}, {float(c - b * b / (4 * a))!r}}},")
