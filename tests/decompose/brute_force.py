"""The head decomposition by brute force, as an oracle for `isthmus decompose`: every N×V matrix is formed in float64 and
projections come from singular value decompositions. It shares no code with the program."""

import numpy as np

SHARES = (0.001, 0.01, 0.1, 1.0)  # of the vocabulary, most frequent first
BUCKETS = ("top_0.1_percent", "top_1_percent", "top_10_percent", "rest")
RETAINED_BOUNDS = [i / 20 for i in range(1, 20)]
STEP_SIZES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
GRADIENT_BOUNDS = [0.001, 0.003, 0.01, 0.03] + [i / 10 for i in range(1, 14)]


def softmax_gradient(logits, targets):
    """Losses [N] and the gradient of their mean with respect to the logits, without cancellation at the targets."""
    n = np.arange(len(targets))
    shifted = logits - logits.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    own = weights[n, targets].copy()
    others = weights.copy()
    others[n, targets] = 0
    rest = others.sum(axis=1)
    total = own + rest
    gradient = weights / total[:, None]
    gradient[n, targets] = -rest / total
    with np.errstate(divide="ignore", over="ignore"):
        losses = np.where(rest < own, np.log1p(rest / own), np.log(total) - shifted[n, targets])
    return losses, gradient / len(targets)


def loss_gradient(logits, targets, soft_cap=0, z_loss=0):
    """Losses [N] without the z-loss, and the gradient of the mean of all of the loss with respect to the logits, which
    are those before the cap."""
    capped = soft_cap * np.tanh(logits / soft_cap) if soft_cap else logits
    losses, gradient = softmax_gradient(capped, targets)
    if z_loss:
        largest = capped.max(axis=1, keepdims=True)
        weights = np.exp(capped - largest)
        total = weights.sum(axis=1, keepdims=True)
        gradient = gradient + 2 * z_loss * (largest + np.log(total)) * weights / total / len(targets)
    return losses, gradient / np.cosh(logits / soft_cap) ** 2 if soft_cap else gradient


def is_extreme(matrix):
    """Whether squares of its numbers, or products of a few of them, might leave the range of float64."""
    return matrix is not None and not 1e-30 < np.abs(matrix).max() < 1e30


def usual(matrix):
    """The matrix times the power of two that makes its largest number about 1, in float64, and the exponent."""
    exponent = int(np.frexp(np.abs(matrix).max())[1])
    return np.ldexp(matrix, -exponent).astype(np.float64), exponent


def anisotropy(rows):
    """Mean cosine over all pairs of different rows that are not zero, by the definition: a matrix of cosines."""
    rows = rows[np.any(rows != 0, axis=1)]
    if len(rows) < 2:
        return None
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if any(is_extreme(size) for size in largest if size > 0):
        rows = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0).astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    cosines = unit @ unit.T
    count = len(rows)
    return float((cosines.sum() - np.trace(cosines)) / (count * (count - 1)))


def histogram(values, bounds):
    places = [int(np.sum(np.asarray(bounds) < value)) for value in values]
    return {"bounds": bounds, "counts": np.bincount(places, minlength=len(bounds) + 1).tolist(), "sum": float(np.sum(values))}


def shard_bounds(count, parts):
    sizes = [count // parts + (1 if i < count % parts else 0) for i in range(parts)]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(int)


def frequency_buckets(counts):
    order = sorted(range(len(counts)), key=lambda v: (-counts[v], v))
    ends = [-(-len(counts) * k // 1000) for k in (1, 10, 100, 1000)]
    return [np.array(order[begin:end], dtype=int) for begin, end in zip([0] + ends[:-1], ends)]


def step_directions(gradient, retained, head, width):
    """The directions of steps in the logits of tokens with that gradient; None if one is zero, except for rounding, or
    not unique. `head` has a largest singular value of about 1."""
    left, singular, right = np.linalg.svd(gradient, full_matrices=False)
    rank = 2 * width
    directions = {
        "full": gradient,
        "visible": retained,
        "hidden": (gradient @ head) @ head.T,
        "best_rank": (left[:, :rank] * singular[:rank]) @ right[:rank],
    }
    least = 1e-12 * np.linalg.norm(gradient)
    directions = {name: x if np.linalg.norm(x) > least else None for name, x in directions.items()}
    alike = len(singular) > rank and singular[rank - 1] - singular[rank] < 1e-12 * singular[0]
    if alike and singular[rank - 1] > 1e-6 * singular[0]:
        directions["best_rank"] = None
    return directions


def steps_along(directions, logits, targets, norm=np.linalg.norm, soft_cap=0):
    """The losses after steps of every size along the directions: each is divided by its norm."""
    loss = lambda moved: float(loss_gradient(moved, targets, soft_cap)[0].mean())

    def along(x):
        if x is None:
            return None
        moves = [size * len(logits) ** 0.5 * (x / norm(x)) for size in STEP_SIZES]
        losses = [loss(logits - move) for move in moves]
        best = int(np.argmin(losses))
        return {"losses": losses, "best_loss": losses[best], "best_size": STEP_SIZES[best]}

    return {
        "tokens": len(logits),
        "sizes": list(STEP_SIZES),
        "loss_before": loss(logits),
        **{name: along(x) for name, x in directions.items()},
    }


def decompose(hidden, head, targets, tensor=1, counts=None, up=None, down=None, sample_tokens=2048,
              steps=steps_along, bias=None, soft_cap=0, z_loss=0):
    """`head` [V, D], or `up` [V, R] and `down` [R, D]; `bias` [V, 1] of the logits. Keys as the program's. `steps` makes what stands beside them for
    steps of equal norm; None: there is nothing."""
    factorised = up is not None
    up = up if factorised else head
    # long double has enough exponents for all that float64 can hold, and for products of several such numbers.
    scaled = any(is_extreme(matrix) or (np.abs(matrix).max(axis=0) < 1e-30).any() for matrix in (hidden, up, down)
                 if matrix is not None)
    wide = np.longdouble if scaled else np.float64
    hidden, up, down = (None if matrix is None else matrix.astype(wide) for matrix in (hidden, up, down))
    head = up @ down if factorised else up
    tokens, vocabulary, width = len(hidden), len(up), up.shape[1]
    n = np.arange(tokens)
    logits = (hidden @ head.T).astype(np.float64)
    if bias is not None:
        logits = logits + bias[:, 0]
    losses, grad = loss_gradient(logits, targets, soft_cap, z_loss)
    energy = float((grad**2).sum())
    norm = energy**0.5

    # A head that is the product of two factors has min(V, R) singular values that are not zero by construction.
    usual_head, exponent = usual(head) if scaled else (head, 0)
    left, singular, _ = np.linalg.svd(usual_head, full_matrices=False)
    singular = singular[: min(vocabulary, width, hidden.shape[1])]
    rank = int((singular > singular[0] * max(head.shape) * np.finfo(np.float64).eps).sum())
    basis = left[:, :rank]
    retained = (grad @ basis) @ basis.T
    retained_energy = float((retained**2).sum())
    lost = grad - retained

    # This is the first-order change of the logits, matrix by matrix.
    grad_hidden = grad @ head
    through_hidden = grad_hidden @ head.T
    if factorised:
        grad_up, grad_down = grad.T @ (hidden @ down.T), up.T @ grad.T @ hidden
        update = through_hidden + (hidden @ down.T) @ grad_up.T + hidden @ grad_down.T @ up.T
        head_gradients = (grad_up, grad_down)
    else:
        head_gradients = (grad.T @ hidden,)
        update = through_hidden + hidden @ head_gradients[0].T
    length = lambda m: np.sqrt((m * m).sum())
    cosine = lambda m: float((m * grad).sum() / (length(m) * norm)) if norm > 0 else 0.0

    stride = -(-tokens // sample_tokens)
    sampled = grad[::stride]
    spectrum = np.linalg.svd(sampled, compute_uv=False)
    spectrum = np.concatenate([spectrum, np.zeros(len(sampled) - len(spectrum))])
    # These are the singular values that a Gram matrix in float64 can know.
    known = spectrum[spectrum**2 > len(sampled) * np.finfo(np.float64).eps / 2 * spectrum[0] ** 2]
    sampled_energy = float((sampled**2).sum())
    best = lambda k: float((spectrum[:k] ** 2).sum() / sampled_energy)
    partial = np.sqrt(np.cumsum(spectrum**2))
    components = lambda share: int(np.argmax(partial >= share * partial[-1])) + 1

    p = singular / singular.sum()
    error = lambda d: float(np.sqrt((singular[d:] ** 2).sum() / (singular**2).sum()))
    token_norms = np.linalg.norm(grad, axis=1)
    ratios = np.linalg.norm(retained, axis=1) / np.where(token_norms > 0, token_norms, 1)
    at_target, retained_at_target = grad[n, targets], retained[n, targets]
    part = lambda rows: {
        "rows": len(rows),
        "logit_gradient_energy": float((grad[:, rows] ** 2).sum()),
        "retained_energy": float((retained[:, rows] ** 2).sum()),
    }
    bounds = shard_bounds(vocabulary, tensor)
    counts = np.bincount(targets, minlength=vocabulary) if counts is None else counts
    after_steps = {}
    if steps:
        unit = (usual_head / (singular[0] or 1)).astype(np.float64)
        directions = step_directions(sampled, retained[::stride], unit, width)
        after_steps["equal_norm_steps"] = steps(directions, logits[::stride], targets[::stride],
                                                **({"soft_cap": soft_cap} if soft_cap else {}))
    return {
        **after_steps,
        "tokens": tokens,
        "vocabulary": vocabulary,
        "width": width,
        "loss": float(losses.mean()),
        "logit_gradient_norm": norm,
        "retained_gradient_norm": retained_energy**0.5,
        "lost_gradient_norm": float(np.linalg.norm(lost)),
        "visible_cosine": cosine(retained),
        "lost_norm_ratio": float(np.linalg.norm(lost)) / norm,
        "lost_energy_ratio": float((lost**2).sum()) / energy,
        "isotropic_lost_norm_ratio": (1 - rank / vocabulary) ** 0.5,
        "alignment_gain": (retained_energy / energy) ** 0.5 / (rank / vocabulary) ** 0.5,
        "target_energy_share": float((at_target**2).sum()) / energy,
        "retained_target_energy_share": float((retained_at_target**2).sum()) / retained_energy,
        "target_coefficient": float(at_target.sum()),
        "retained_target_coefficient": float(retained_at_target.sum()),
        "update_cosine": cosine(update),
        "hidden_update_cosine": cosine(through_hidden),
        "conditioning_cosine": float((through_hidden * retained).sum() / (length(through_hidden) * length(retained))),
        "hidden_gradient_norm": float(length(grad_hidden)),
        "head_gradient_norm": float(np.sqrt(sum((m * m).sum() for m in head_gradients))),
        "update_rank_bound": 2 * width,
        "sampled_tokens": len(sampled),
        "best_rank_energy_ratio": best(width),
        "best_double_rank_energy_ratio": best(2 * width),
        "sampled_retained_energy_ratio": float((retained[::stride] ** 2).sum()) / sampled_energy,
        "sampled_lost_norm_ratio": float(np.linalg.norm(lost[::stride])) / sampled_energy**0.5,
        "decomposition_error": 0.0,
        "components_for_70_percent": components(0.70),
        "components_for_99_9_percent": components(0.999),
        "head_numerical_rank": rank,
        "head_condition": float(singular[0] / singular[rank - 1]),
        "head_singular_entropy": float((p[p > 0] * np.log(p[p > 0] * len(p))).sum()),
        "head_stable_rank": float((singular**2).sum() / singular[0] ** 2),
        "head_largest_singular_share": float(singular[0] / singular.sum()),
        "head_error_ratio_at_eighth": error(width // 8),
        "head_error_ratio_at_quarter": error(width // 4),
        "head_error_ratio_at_half": error(width // 2),
        "head_row_anisotropy": anisotropy(up),
        "hidden_anisotropy": anisotropy(hidden),
        "hidden_centred_anisotropy": anisotropy(hidden[::stride] - hidden[::stride].mean(axis=0)),
        "shards": [part(np.arange(b, e)) for b, e in zip(bounds[:-1], bounds[1:])],
        "buckets": [
            {"bucket": name, "most_frequent_percent": 100 * share, **part(rows)}
            for name, share, rows in zip(BUCKETS, SHARES, frequency_buckets(counts))
        ],
        "retained_ratio_histogram": histogram(ratios, RETAINED_BOUNDS),
        "token_gradient_histogram": histogram(token_norms * tokens, GRADIENT_BOUNDS),
        "head_singular_values": np.ldexp(singular, exponent).tolist(),
        "sampled_singular_values": known.tolist(),
    }
