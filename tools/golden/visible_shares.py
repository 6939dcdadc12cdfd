"""Shares of single tokens' gradients that a change of their hidden states can follow, by explicit Jacobians.

Prints what tests/model/measure/visible_shares_mpi_test.cc expects. NumPy differentiates the log-probabilities by
complex steps, and projects by singular value decompositions: no formula of a Jacobian and no QR is shared.

    python3 tools/golden/visible_shares.py
"""

import numpy as np

VOCABULARY, WIDTH, TOKENS = 23, 5, 4
CLUSTERS = np.array([1, -1, 0, 1, -1, 1, 0, 2, 2, 2, 0, 1, 1, 1, -1, 2, 0, 0, 1, 2, 2, 2, 1])
TARGETS = [3, 1, 7, 22]


def matrix(rows, columns, phase):
    return np.sin(phase + 7.3 * np.arange(rows)[:, None] + 2.9 * np.arange(columns)[None, :] ** 2)


U, R = matrix(VOCABULARY, WIDTH, 0.3), matrix(3, WIDTH, 1.1)
DOWN = matrix(3, WIDTH, 2.2)
HIDDEN = matrix(TOKENS, WIDTH, 0.7)


def log_sum_exp(z):
    shift = z.real.max()
    return shift + np.log(np.exp(z - shift).sum())


def log_softmax(z):
    return z - log_sum_exp(z)


def full(h, rows=U):
    return log_softmax(rows @ h)


def levels(h):
    singles = np.flatnonzero(CLUSTERS < 0)
    first = log_softmax(np.concatenate([R @ h, U[singles] @ h]))
    result = np.zeros(VOCABULARY, dtype=first.dtype)
    result[singles] = first[3:]
    for c in range(3):
        members = np.flatnonzero(CLUSTERS == c)
        result[members] = first[c] + log_softmax(U[members] @ h)
    return result


def jacobian(f, h, step=1e-30):
    columns = [f(h + step * 1j * e).imag / step for e in np.eye(len(h))]
    return np.stack(columns, axis=1)


def visible(j, g):
    left, singular, _ = np.linalg.svd(j, full_matrices=False)
    basis = left[:, singular > 1e-12 * singular[0]]
    return ((basis.T @ g) ** 2).sum()


def cosine(pairs):
    return np.sqrt(sum(visible(j, g) for j, g in pairs) / sum((g ** 2).sum() for _, g in pairs))


def one_hot(size, index):
    return np.eye(size)[index]


def of_vocabulary(log_probabilities):
    """p - y by the log-probabilities."""
    return cosine([(jacobian(log_probabilities, h), np.exp(log_probabilities(h)) - one_hot(VOCABULARY, t))
                   for h, t in zip(HIDDEN, TARGETS)])


def of_logits(h, target):
    """The logits of both levels that a token's loss is computed from, and the loss's gradient by them."""
    singles = np.flatnonzero(CLUSTERS < 0)
    rows = [np.concatenate([R, U[singles]])]
    cluster = CLUSTERS[target]
    wanted = [3 + list(singles).index(target) if cluster < 0 else cluster]
    if cluster >= 0:
        members = np.flatnonzero(CLUSTERS == cluster)
        rows.append(U[members])
        wanted.append(list(members).index(target))
    gradient = [np.exp(log_softmax(r @ h)) - one_hot(len(r), w) for r, w in zip(rows, wanted)]
    return np.concatenate(rows), np.concatenate(gradient)


class Copying:
    """Tokens of sequences of four that point at tokens before them. `IDS` were read."""

    IDS = [3, 9, 3, 7, 22, 7, 22, 22]
    PLACES, LENGTH, SINK = [2, 3, 4, 7], 4, 0.4
    DOWN = matrix(7, WIDTH, 1.9)
    QUERY, KEY, SLOT = DOWN[:3], DOWN[3:6], DOWN[6]
    HIDDEN = matrix(8, WIDTH, 0.7)

    def __init__(self, place):
        first = place // self.LENGTH * self.LENGTH
        self.ids = self.IDS[first:place + 1]
        self.earlier = self.HIDDEN[first:place]
        self.hidden = self.HIDDEN[place]

    def outputs(self, h):
        """Logits of the vocabulary, then the slot's, the sink's and the positions' scores."""
        keys = np.concatenate([self.earlier, h[None, :]]) @ self.KEY.T
        return np.concatenate([U @ h, [self.SLOT @ h, self.SINK], keys @ (self.QUERY @ h) / np.sqrt(3)])

    def of_outputs(self, outputs):
        vocabulary, slot, scores = np.split(outputs, [VOCABULARY, VOCABULARY + 1])
        share = 1 / (1 + np.exp(log_sum_exp(vocabulary) - slot))
        masses = np.exp(log_softmax(scores))
        probabilities = np.exp(log_softmax(vocabulary)) * (1 - share * (1 - masses[0]))
        for mass, token in zip(masses[1:], self.ids):
            probabilities[token] += share[0] * mass
        return np.log(probabilities)

    def __call__(self, h):
        return self.of_outputs(self.outputs(h))


product = U[:, :3] @ DOWN
print("full:        logits %.12f" % cosine([(U, np.exp(full(h)) - one_hot(VOCABULARY, t)) for h, t in zip(HIDDEN, TARGETS)]))
print("full:        log-probabilities %.12f" % of_vocabulary(full))
print("factorised:  logits %.12f" % cosine([(product, np.exp(full(h, product)) - one_hot(VOCABULARY, t)) for h, t in zip(HIDDEN, TARGETS)]))
print("factorised:  log-probabilities %.12f" % of_vocabulary(lambda h: full(h, product)))
print("two levels:  logits %.12f" % cosine([of_logits(h, t) for h, t in zip(HIDDEN, TARGETS)]))
print("two levels:  log-probabilities %.12f" % of_vocabulary(levels))
copies = [(Copying(place), t) for place, t in zip(Copying.PLACES, TARGETS)]
print("copies:      logits %.12f" % cosine([(jacobian(f.outputs, f.hidden),
                                             -jacobian(f.of_outputs, f.outputs(f.hidden))[t]) for f, t in copies]))
print("copies:      log-probabilities %.12f" % cosine([(jacobian(f, f.hidden),
                                                        np.exp(f(f.hidden)) - one_hot(VOCABULARY, t)) for f, t in copies]))
