#!/usr/bin/env python3
"""Writes ten steps of every optimizer: tests/golden/optimizers.json.

    python tools/golden/optimizers.py --out tests/golden

AdamW, AMSGrad and SGD are PyTorch's own, in float64. SGD's weight decay is decoupled here: the weights are multiplied
by 1 - rate * decay before PyTorch's step. Muon is written in NumPy after Keller Jordan's post and arXiv:2502.16982,
equation 4; before anything is written its orthogonalisation must bring singular values near one.
"""

import argparse
import json
import pathlib

import numpy as np
import torch

STEPS = 10
RATE, DECAY, BETA1, BETA2, EPSILON = 0.03, 0.1, 0.9, 0.95, 1e-8
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(d):
    a, b, c = COEFFICIENTS
    x = d / (np.linalg.norm(d) + 1e-7)
    if d.shape[0] > d.shape[1]:
        x = x.T
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if d.shape[0] > d.shape[1] else x


def muon(weight, gradients):
    momentum = np.zeros_like(weight)
    for g in gradients:
        momentum = BETA1 * momentum + g
        step = orthogonalise(g + BETA1 * momentum) * 0.2 * max(weight.shape) ** 0.5
        weight = weight - RATE * (step + DECAY * weight)
    return weight


def with_torch(make, decay_first=False):
    def run(weight, gradients):
        parameter = torch.nn.Parameter(torch.tensor(weight, dtype=torch.float64))
        optimizer = make([parameter])
        for g in gradients:
            if decay_first:
                with torch.no_grad():
                    parameter.mul_(1 - RATE * DECAY)
            parameter.grad = torch.tensor(g, dtype=torch.float64)
            optimizer.step()
        return parameter.detach().numpy()

    return run


def adam(amsgrad):
    return with_torch(
        lambda p: torch.optim.AdamW(
            p, lr=RATE, betas=(BETA1, BETA2), eps=EPSILON, weight_decay=DECAY, amsgrad=amsgrad, foreach=False
        )
    )


OPTIMIZERS = {
    "adamw": adam(False),
    "amsgrad": adam(True),
    "sgd": with_torch(lambda p: torch.optim.SGD(p, lr=RATE, momentum=BETA1, foreach=False), decay_first=True),
    "muon": muon,
}


def numbers(array):
    return [float(f"{value:.17g}") for value in np.asarray(array, dtype=np.float64).ravel()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    random = np.random.default_rng(5)
    singular = np.linalg.svd(orthogonalise(random.standard_normal((6, 9))), compute_uv=False)
    assert singular.min() > 0.6 and singular.max() < 1.3, singular
    cases = []
    for rows, columns in ((5, 7), (7, 5), (4, 4)):
        weight = random.standard_normal((rows, columns))
        # Gradients that shrink: AMSGrad's maximum then matters.
        gradients = [random.standard_normal((rows, columns)) * 0.5**step for step in range(STEPS)]
        for name, run in OPTIMIZERS.items():
            cases.append(
                {
                    "optimizer": name,
                    "rows": rows,
                    "columns": columns,
                    "weight": numbers(weight),
                    "gradients": [numbers(g) for g in gradients],
                    "result": numbers(run(weight.copy(), gradients)),
                }
            )
    settings = {"rate": RATE, "decay": DECAY, "beta1": BETA1, "beta2": BETA2, "epsilon": EPSILON}
    head = {"script": "tools/golden/optimizers.py", "numpy": np.__version__, "torch": torch.__version__}
    text = json.dumps({**head, "settings": settings, "cases": cases}, separators=(",", ":"))
    (out / "optimizers.json").write_text(text.replace('{"optimizer"', '\n{"optimizer"') + "\n")


if __name__ == "__main__":
    main()
