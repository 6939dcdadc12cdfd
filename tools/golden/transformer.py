#!/usr/bin/env python3
"""Writes what PyTorch computes for one small decoder: tests/golden/transformer_{untied,factorised,tied}.json.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install torch numpy
    /tmp/golden/bin/python tools/golden/transformer.py --out tests/golden

Computed in float64 on one thread. PyTorch clips by min(1, clip_norm / (norm + clip_epsilon)). A file holds, for ten steps of AdamW:
  config, optimizer         the sizes and settings
  ids, targets              [steps][B*T]; row b*T + t is token t of sequence b
  initial                   the weights before step 0; exact in bf16, fp32 and fp64
  hidden                    step 0: [B*T, D], states after the final norm
  logits                    step 0: [T, V], of the first sequence
  gradients                 step 0, before clipping
  losses, gradient_norms    of each step, before its update; norms before clipping
  final                     the weights after the last step
  fp32                      losses and gradient_norms of the same run in float32, to show how far rounding drifts
  decomposition             of the head at step 0, by brute force; of W = up * down when the head is factorised
  decomposition_of_up       only then: of `up` and the states of width R

A tensor is {"shape", "exponent", "values"}: integers in row-major order, element = value * 2^exponent. The exponent
leaves 31 bits to the largest element, so that each is right to 5e-10 of the tensor's maximum; `initial` is exact.
"""

import argparse
import json
import math
import pathlib

import numpy as np
import torch
from decoder import Config, Decoder, optimizer_groups, rope_angles
from decomposition import decompose

SEED = 20260310
SEQUENCES, LENGTH, STEPS = 3, 7, 10
SHARDS = [0, 13, 25, 37]
SIZES = dict(vocabulary=37, width=16, layers=2, heads=4, kv_heads=2, head_dim=4, feed_forward=24)
VARIANTS = {"untied": {}, "factorised": dict(head_rank=6), "tied": dict(tied_embeddings=True)}
OPTIMIZER = dict(learning_rate=1e-2, beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1)
CLIP_NORM = {"untied": 1.0, "factorised": 1.7, "tied": 4.0}  # clips every step, some steps, some steps
WEIGHT_UNIT = 2.0**-9
EMBEDDING_SCALE = 2
BITS = 31  # of the largest element of a tensor


def encode(values, exponent=None):
    values = np.asarray(values, dtype=np.float64)
    if exponent is None:
        exponent = math.frexp(float(np.abs(values).max()))[1] - BITS
    integers = np.rint(np.ldexp(values, -exponent)).astype(np.int64)
    return {"shape": list(values.shape), "exponent": exponent, "values": integers.ravel().tolist()}


def set_initial_weights(model):
    """Multiples of 2^-9 with at most 8 significant bits: exact in every dtype. One stream per name."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            random = np.random.default_rng([SEED, *name.encode()])
            if parameter.dim() == 1:
                units = 512 + 4 * random.integers(-40, 41, parameter.shape)
                units -= units % 4  # between 1 and 2 the step of bf16 is 2^-7
            else:
                units = np.clip(np.rint(random.normal(0, 120, parameter.shape)), -255, 255)
                units *= EMBEDDING_SCALE if name == "embedding.weight" else 1
            parameter.copy_(torch.from_numpy(units * WEIGHT_UNIT))


def make_batches():
    """A noisy affine walk through the vocabulary: something to learn, and every token occurs."""
    random = np.random.default_rng(SEED + 1)
    vocabulary = SIZES["vocabulary"]
    tokens = np.empty((STEPS, SEQUENCES, LENGTH + 1), dtype=np.int64)
    tokens[:, :, 0] = random.integers(0, vocabulary, (STEPS, SEQUENCES))
    for t in range(LENGTH):
        noise = random.integers(0, vocabulary, (STEPS, SEQUENCES))
        follow = random.random((STEPS, SEQUENCES)) < 0.7
        tokens[:, :, t + 1] = np.where(follow, (5 * tokens[:, :, t] + 3) % vocabulary, noise)
    return torch.from_numpy(tokens[:, :, :-1].copy()), torch.from_numpy(tokens[:, :, 1:].copy())


def train(config, clip_norm, dtype, record):
    """Ten steps; calls record(model, ids, targets, angles) between the first backward pass and the first update."""
    model = Decoder(config).to(dtype)
    set_initial_weights(model)
    initial = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(
        optimizer_groups(model, OPTIMIZER["weight_decay"]),
        lr=OPTIMIZER["learning_rate"],
        betas=(OPTIMIZER["beta1"], OPTIMIZER["beta2"]),
        eps=OPTIMIZER["epsilon"],
    )
    angles = rope_angles(config, LENGTH, dtype)
    losses, norms = [], []
    for step, (ids, targets) in enumerate(zip(*make_batches())):
        optimizer.zero_grad()
        loss = model(ids, targets, angles)
        loss.backward()
        if step == 0:
            record(model, ids, targets, angles)
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm).item())
        losses.append(loss.item())
        optimizer.step()
    return initial, losses, norms, {name: p.detach() for name, p in model.named_parameters()}


def golden(name, variant):
    config = Config(**SIZES, **variant)
    first = {}

    def record(model, ids, targets, angles):
        with torch.no_grad():
            hidden = model.hidden(ids, angles)
            first["hidden"] = encode(hidden.flatten(0, 1))
            first["logits"] = encode(model.logits(hidden)[0])
            first["gradients"] = {n: encode(p.grad) for n, p in sorted(model.named_parameters())}
            states, labels = hidden.flatten(0, 1).numpy(), targets.flatten().numpy()
            if config.head_rank:
                up, down = model.head.up.weight.numpy(), model.head.down.weight.numpy()
                first["decomposition"] = decompose(states, up @ down, labels, SHARDS)
                first["decomposition_of_up"] = decompose(states @ down.T, up, labels, SHARDS)
            else:
                head = model.embedding.weight if config.tied_embeddings else model.head.weight
                first["decomposition"] = decompose(states, head.numpy(), labels, SHARDS)

    initial, losses, norms, final = train(config, CLIP_NORM[name], torch.float64, record)
    _, fp32_losses, fp32_norms, _ = train(config, CLIP_NORM[name], torch.float32, lambda *_: None)
    ids, targets = make_batches()
    return {
        "script": "tools/golden/transformer.py",
        "variant": name,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "seed": SEED,
        "config": {**vars(config), "sequences": SEQUENCES, "sequence_length": LENGTH},
        "optimizer": {**OPTIMIZER, "clip_norm": CLIP_NORM[name], "clip_epsilon": 1e-6},
        "ids": ids.flatten(1).tolist(),
        "targets": targets.flatten(1).tolist(),
        "initial": {n: encode(p, -9) for n, p in sorted(initial.items())},
        **first,
        "losses": losses,
        "gradient_norms": norms,
        "final": {n: encode(p) for n, p in sorted(final.items())},
        "fp32": {"losses": fp32_losses, "gradient_norms": fp32_norms},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder that receives the JSON files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, variant in VARIANTS.items():
        result = golden(name, variant)
        path = args.out / f"transformer_{name}.json"
        lines = ",\n".join(f'"{key}": {json.dumps(value, separators=(",", ":"))}' for key, value in result.items())
        path.write_text("{\n" + lines + "\n}\n")
        ratio = result["decomposition"]["lost_norm_ratio"]
        print(f"{path}: {path.stat().st_size} bytes, losses {result['losses'][0]:.4f} to {result['losses'][-1]:.4f}, "
              f"gradient norms {min(result['gradient_norms']):.3f} to {max(result['gradient_norms']):.3f}, lost {ratio:.4f}")


if __name__ == "__main__":
    main()
