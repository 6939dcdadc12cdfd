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


def log_softmax(z):
    shift = z.real.max()
    return z - shift - np.log(np.exp(z - shift).sum())


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


product = U[:, :3] @ DOWN
print("full:        logits %.12f" % cosine([(U, np.exp(full(h)) - one_hot(VOCABULARY, t)) for h, t in zip(HIDDEN, TARGETS)]))
print("full:        log-probabilities %.12f" % of_vocabulary(full))
print("factorised:  logits %.12f" % cosine([(product, np.exp(full(h, product)) - one_hot(VOCABULARY, t)) for h, t in zip(HIDDEN, TARGETS)]))
print("factorised:  log-probabilities %.12f" % of_vocabulary(lambda h: full(h, product)))
print("two levels:  logits %.12f" % cosine([of_logits(h, t) for h, t in zip(HIDDEN, TARGETS)]))
print("two levels:  log-probabilities %.12f" % of_vocabulary(levels))
