"""The head decomposition by brute force: every matrix formed, projections by SVD, all in float64."""

import numpy as np


def decompose(hidden, head, targets, shards):
    """Keys as `isthmus decompose` prints them. hidden [N, D], head [V, D], targets [N]; shards: boundaries of vocabulary ranges."""
    tokens, vocabulary, width = len(hidden), len(head), head.shape[1]
    logits = hidden @ head.T
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    grad = np.exp(shifted - log_sum)
    grad[np.arange(tokens), targets] -= 1
    grad /= tokens

    left, singular, _ = np.linalg.svd(head, full_matrices=False)
    rank = int((singular > singular[0] * max(head.shape) * np.finfo(np.float64).eps).sum())
    basis = left[:, :rank]
    retained = grad @ basis @ basis.T
    lost = grad - retained
    norm, retained_norm, lost_norm = (float(np.linalg.norm(m)) for m in (grad, retained, lost))

    grad_hidden, grad_head = grad @ head, grad.T @ hidden
    through_hidden = grad_hidden @ head.T
    update = through_hidden + hidden @ grad_head.T
    cosine = lambda m: float((m * grad).sum() / (np.linalg.norm(m) * norm))
    spectrum = np.linalg.svd(grad, compute_uv=False)
    best = lambda k: float((spectrum[:k] ** 2).sum() / norm**2)
    energy = lambda m, begin, end: float((m[:, begin:end] ** 2).sum())
    return {
        "tokens": tokens,
        "vocabulary": vocabulary,
        "width": width,
        "loss": float(-(shifted - log_sum)[np.arange(tokens), targets].mean()),
        "logit_gradient_norm": norm,
        "retained_gradient_norm": retained_norm,
        "lost_gradient_norm": lost_norm,
        "visible_cosine": cosine(retained),
        "lost_norm_ratio": lost_norm / norm,
        "lost_energy_ratio": lost_norm**2 / norm**2,
        "isotropic_lost_norm_ratio": (1 - rank / vocabulary) ** 0.5,
        "alignment_gain": retained_norm / norm / (rank / vocabulary) ** 0.5,
        "update_cosine": cosine(update),
        "hidden_update_cosine": cosine(through_hidden),
        "update_rank_bound": 2 * width,
        "best_rank_energy_ratio": best(width),
        "best_double_rank_energy_ratio": best(2 * width),
        "head_condition": float(singular[0] / singular[rank - 1]),
        "head_numerical_rank": rank,
        "target_retained_coefficients": retained[np.arange(tokens), targets].tolist(),
        "shards": [
            {"begin": b, "end": e, "logit_gradient_energy": energy(grad, b, e), "retained_energy": energy(retained, b, e)}
            for b, e in zip(shards[:-1], shards[1:])
        ],
    }
