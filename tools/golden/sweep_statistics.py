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
print("// a line: x, y, slope, intercept, interval at 95 %, probability, r², the same by points that were left out")
for x, y in [
    ((0.991, 0.984, 0.972, 0.993, 0.965), (13.1, 12.9, 12.2, 13.4, 12.5)),
    ((1.0, 2.0, 3.0, 4.0), (2.0, 1.0, 4.0, 3.5)),
    ((-3.0, 0.5, 0.25, 8.0, 2.0, 2.0, 1.0), (0.1, -0.2, 0.05, 0.0, 0.3, -0.1, 0.02)),
]:
    line = stats.linregress(x, y)
    half = stats.t.ppf(0.975, len(x) - 2) * line.stderr
    distances, means = [], []
    for i in range(len(x)):
        others_x, others_y = np.delete(x, i), np.delete(y, i)
        slope, intercept = np.polyfit(others_x, others_y, 1)
        distances.append(y[i] - intercept - slope * x[i])
        means.append(y[i] - np.mean(others_y))
    left_out = 1 - np.dot(distances, distances) / np.dot(means, means)
    found = [line.slope, line.intercept, line.slope - half, line.slope + half, line.pvalue, line.rvalue**2, left_out]
    print(f"    {{{{{', '.join(map(repr, x))}}}, {{{', '.join(map(repr, y))}}}, "
          + ", ".join(repr(float(v)) for v in found) + "},")
