"""Intervals and controls of the head decomposition by brute force, as an oracle for `isthmus decompose --bootstrap N
--controls N`. It draws the same numbers, from a Philox of its own, and shares no code with the program."""

import numpy as np

from brute_force import BUCKETS, SHARES, frequency_buckets, loss_gradient, usual

RESAMPLE, CONTROL_HEAD, CONTROL_HIDDEN = 10, 12, 13  # purposes of random numbers


def philox(purpose, stream, indices):
    """The four words of each index as columns, with the seed 0 (Salmon et al. 2011)."""
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    indices = np.asarray(indices, dtype=np.uint64)
    words = [indices & low, indices >> high, np.full_like(indices, stream), np.full_like(indices, purpose)]
    keys = [np.uint64(0), np.uint64(0)]
    for _ in range(10):
        first, second = np.uint64(0xD2511F53) * words[0], np.uint64(0xCD9E8D57) * words[2]
        words = [(second >> high) ^ words[1] ^ keys[0], second & low, (first >> high) ^ words[3] ^ keys[1], first & low]
        keys = [(keys[0] + np.uint64(0x9E3779B9)) & low, (keys[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(words, axis=1)


def normals(purpose, stream, rows, columns):
    words = philox(purpose, stream, np.arange(rows * columns))
    uniform = lambda a, b: (((words[:, a] << np.uint64(32)) | words[:, b]) >> np.uint64(11)).astype(np.float64)
    radius = np.sqrt(-2 * np.log((uniform(0, 1) + 1) * 2.0**-53))
    return (radius * np.cos(2 * np.pi * uniform(2, 3) * 2.0**-53)).reshape(rows, columns)


class Head:
    """A head, what its loss is, and the basis of its column space."""

    def __init__(self, hidden, head, targets, up=None, down=None, bias=None, soft_cap=0, z_loss=0, **_):
        self.factors = (head,) if up is None else (up, down)
        extended = [factor.astype(np.longdouble) for factor in self.factors]
        self.product = extended[0] if up is None else extended[0] @ extended[1]
        self.hidden, self.targets, self.bias = hidden, targets, bias
        self.form = {"soft_cap": soft_cap, "z_loss": z_loss}
        matrix, _ = usual(self.product)
        left, singular, _ = np.linalg.svd(matrix, full_matrices=False)
        self.rank = int((singular > singular[0] * max(matrix.shape) * np.finfo(float).eps).sum())
        self.vocabulary = len(matrix)
        self.basis = left[:, : self.rank]

    def gradient(self, hidden):
        logits = (hidden.astype(np.longdouble) @ self.product.T).astype(np.float64)
        if self.bias is not None:
            logits = logits + self.bias[:, 0]
        return loss_gradient(logits, self.targets, **self.form)[1]

    def share(self, gradient, basis):
        if self.rank == self.vocabulary:
            return 1.0
        return float(((gradient @ basis) ** 2).sum() / (gradient**2).sum())


def figures(head, share):
    return {
        "lost_norm_ratio": max(1 - share, 0) ** 0.5,
        "visible_cosine": share**0.5,
        "alignment_gain": (share * head.vocabulary / head.rank) ** 0.5,
        "lost_energy_ratio": max(1 - share, 0),
    }


def draw_blocks(resample, count):
    """The blocks that a resample takes."""
    words = philox(RESAMPLE, resample, np.arange(-(-count // 4))).reshape(-1)[:count]
    return ((words * np.uint64(count)) >> np.uint64(32)).astype(int)


def intervals(head, tokens, block, resamples, draw=draw_blocks):
    """Of some tokens, each resample made of the very tokens of its blocks. `tokens` says which ones count."""
    gradient = head.gradient(head.hidden)
    energy = (gradient**2).sum(axis=1)
    retained = ((gradient @ head.basis) ** 2).sum(axis=1) if head.rank < head.vocabulary else energy
    blocks = [np.arange(begin, min(begin + block, len(energy))) for begin in range(0, len(energy), block)]
    found = []
    for resample in range(resamples):
        drawn = np.concatenate([blocks[i] for i in draw(resample, len(blocks))])
        drawn = drawn[tokens[drawn]]
        if len(drawn):
            found.append(figures(head, retained[drawn].sum() / energy[drawn].sum()))
    own = figures(head, retained[tokens].sum() / energy[tokens].sum())
    result = {}
    for name, value in own.items():
        low, high = np.percentile([each[name] for each in found], [2.5, 97.5])
        result[name] = {"value": float(value), "low": float(low), "high": float(high)}
    return len(found), len(blocks), result


def bootstrap(head, counts, block, resamples, **wrong):
    all_resamples, blocks, result = intervals(head, np.ones(len(head.hidden), bool), block, resamples, **wrong)
    buckets = []
    for name, share, rows in zip(BUCKETS, SHARES, frequency_buckets(counts)):
        tokens = np.isin(head.targets, rows)
        bucket = {"bucket": name, "most_frequent_percent": 100 * share, "tokens": int(tokens.sum()), "resamples": 0}
        if tokens.any():
            bucket["resamples"], _, more = intervals(head, tokens, block, resamples, **wrong)
            bucket.update(more)
        buckets.append(bucket)
    return {"resamples": all_resamples, "confidence": 0.95, "blocks": blocks, "block_tokens": block, **result,
            "target_buckets": buckets}


def control(head, shares):
    trained = figures(head, head.share(head.gradient(head.hidden), head.basis))["visible_cosine"]
    drawn = [figures(head, share) for share in shares]
    cosines = [each["visible_cosine"] for each in drawn]
    spread = lambda name: {"mean": float(np.mean([each[name] for each in drawn])),
                           "deviation": float(np.std([each[name] for each in drawn], ddof=1))}
    result = {name: spread(name) for name in ("visible_cosine", "lost_norm_ratio", "alignment_gain")}
    mean, deviation = result["visible_cosine"].values()
    return {**result, "draws_below": int((np.array(cosines) < trained).sum()), "visible_cosines": cosines,
            "deviations_above": (trained - mean) / deviation if deviation > 1e-12 * mean else None}


def random_basis(head, draw):
    """An orthonormal basis of what random columns span: by Householder reflections, not by a Gram matrix."""
    return np.linalg.qr(normals(CONTROL_HEAD, draw, head.vocabulary, head.rank))[0]


def gaussian_hidden(head, draw, centre=True):
    """Rows with the mean and covariance of the hidden states, by a root of the covariance."""
    hidden, exponent = usual(head.hidden.astype(np.longdouble))
    mean = hidden.mean(axis=0) if centre else np.zeros(hidden.shape[1])
    # Of the centred states = U diag(s) Vᵀ the covariance V diag(s²) Vᵀ / N has the root V diag(s) Vᵀ / √N.
    _, singular, right = np.linalg.svd(hidden - mean, full_matrices=False)
    root = (right.T * singular) @ right / len(hidden) ** 0.5
    return np.ldexp(normals(CONTROL_HIDDEN, draw, *hidden.shape) @ root + mean, exponent)


def controls(head, draws, basis=random_basis, hidden=gaussian_hidden):
    gradient = head.gradient(head.hidden)
    share = head.rank / head.vocabulary
    return {
        "draws": draws,
        "isotropic_visible_cosine": share**0.5,
        "isotropic_lost_norm_ratio": (1 - share) ** 0.5,
        "random_head": control(head, [head.share(gradient, basis(head, draw)) for draw in range(draws)]),
        "random_hidden": control(head, [head.share(head.gradient(hidden(head, draw)), head.basis)
                                        for draw in range(draws)]),
    }


def uncertainty(tensors, form, block, resamples, draws):
    """The objects `bootstrap` and `controls` of the figures."""
    head = Head(**{key: value for key, value in tensors.items() if key != "counts"}, **form)
    counts = tensors.get("counts")
    if counts is None:
        counts = np.bincount(head.targets, minlength=head.vocabulary)
    return {"bootstrap": bootstrap(head, counts, block, resamples), "controls": controls(head, draws)}
