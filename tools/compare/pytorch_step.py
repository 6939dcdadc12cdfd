#!/usr/bin/env python3
"""Times a training step of Isthmus' model in PyTorch on this machine's CPU or GPU and prints one JSON object.

    python tools/compare/pytorch_step.py                                  # the quickstart's shape
    python tools/compare/pytorch_step.py --shape gpt2 --sequences 1 --dtype bf16 --threads 2
    python tools/compare/pytorch_step.py --device cuda --shape 2b --dtype bf16 --sequences 16 --micro-batch 4

A step is forward, backward, clipping of the global gradient norm to 1 and a fused AdamW; gradients of micro-batches add
up. fp32 is fp32 throughout (on a GPU with TF32 off); bf16 is PyTorch's autocast over fp32 weights. Attention is
scaled_dot_product_attention, for which PyTorch chooses the kernel. A micro-batch that does not fit a GPU's memory is
halved until it does, and the one used is reported. With --compile (the default) the model is compiled, and if that
fails the run goes on without and says so. FLOPs: 6 * (parameters that multiply, head included, embedding look-up
excluded) + 6 * layers * length * heads * head_dim per token (causal), as `isthmus plan` counts them. The median step is
reported; the quartiles show the noise.
"""

import argparse
import gc
import json
import pathlib
import platform
import statistics
import sys
import time

import torch

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "golden"))
from decoder import Config, Decoder, optimizer_groups, rope_angles

SHAPES = {
    "quickstart": dict(layers=4, width=256, heads=4, kv_heads=4, feed_forward=704, vocabulary=8192, length=256, sequences=8),
    "gpt2": dict(layers=12, width=768, heads=12, kv_heads=12, feed_forward=2048, vocabulary=50257, length=1024, sequences=1),
    "2b": dict(layers=6, width=4096, heads=32, kv_heads=32, feed_forward=16384, vocabulary=49152, length=4096, sequences=16),
}


def rotate_halves(x, angles):
    """Real arithmetic, which torch.compile fuses. `angles` is the pair (cosines, sines)."""
    cosine, sine = angles
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def flops_per_token(model, config, length):
    multiplying = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and name != "embedding.weight")
    if config.tied_embeddings:
        multiplying += model.embedding.weight.numel()
    return 6 * multiplying + 6 * config.layers * length * config.heads * config.head_dim


def make_step(config, args):
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.device(args.device):
        model = Decoder(config, rotate_halves)
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.02)
        optimizer = torch.optim.AdamW(optimizer_groups(model, 0.1), lr=1e-4, betas=(0.9, 0.95), fused=True)
        angles = rope_angles(config, args.length, torch.float32)
        table = (angles.cos(), angles.sin())
        if args.dtype == "bf16":
            table = tuple(t.bfloat16() for t in table)
    run = torch.compile(model) if args.compile else model
    # They are in host memory, as a data loader leaves them.
    shape = (args.sequences, args.length)
    batches = [(torch.randint(config.vocabulary, shape), torch.randint(config.vocabulary, shape)) for _ in range(4)]
    passes = args.sequences // args.micro_batch

    def step(index):
        ids, targets = (part.to(args.device) for part in batches[index % len(batches)])
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=args.device)
        for i, t in zip(ids.chunk(passes), targets.chunk(passes)):
            with torch.autocast(args.device, torch.bfloat16, enabled=args.dtype == "bf16"):
                loss = run(i, t, table) / passes
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return total.item()  # waits for the device

    return model, step


def measure(config, args):
    model, step = make_step(config, args)
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for index in range(args.warmup):
        step(index)
    seconds, begin = [], time.perf_counter()
    while len(seconds) < args.steps and (len(seconds) < 3 or time.perf_counter() - begin < args.seconds):
        started = time.perf_counter()
        loss = step(args.warmup + len(seconds))
        seconds.append(time.perf_counter() - started)
    return model, seconds, loss


def measure_as_it_fits(config, args):
    """Without torch.compile where that fails, and with half the micro-batch where memory does not suffice."""
    while True:
        try:
            return measure(config, args)
        except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as fault:
            print(f"torch.compile failed, continuing without: {str(fault).splitlines()[0]}", file=sys.stderr)
            args.compile = False
        except torch.OutOfMemoryError:
            if args.micro_batch == 1:
                raise
            args.micro_batch //= 2
            print(f"out of memory, continuing with micro-batches of {args.micro_batch}", file=sys.stderr)
        # This is outside the handler, so that the exception no longer keeps tensors alive.
        torch._dynamo.reset()
        gc.collect()
        if args.device == "cuda":
            torch.cuda.empty_cache()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="quickstart", help="defaults of the sizes below")
    for name in SHAPES["gpt2"]:
        parser.add_argument("--" + name.replace("_", "-"), type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--micro-batch", type=int, default=0, help="sequences of a pass; 0: all of them")
    parser.add_argument("--head-rank", type=int, default=0, help="rank of a factorised head; 0: full")
    parser.add_argument("--tied", action="store_true", help="the head is the embedding table")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's choice")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--warmup", type=int, default=2, help="steps that are not timed")
    parser.add_argument("--steps", type=int, default=20, help="timed steps at most")
    parser.add_argument("--seconds", type=float, default=60, help="stop after this long, with three timed steps at least")
    args = parser.parse_args()
    for name, value in SHAPES[args.shape].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.width % args.heads or args.heads % args.kv_heads:
        parser.error(f"--width {args.width} must be a multiple of --heads {args.heads}, and that of --kv-heads {args.kv_heads}")
    args.micro_batch = args.micro_batch or args.sequences
    if args.sequences % args.micro_batch:
        parser.error(f"--sequences {args.sequences} must be a multiple of --micro-batch {args.micro_batch}")
    return args


def main():
    args = parse_arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    config = Config(
        vocabulary=args.vocabulary, width=args.width, layers=args.layers, heads=args.heads, kv_heads=args.kv_heads,
        head_dim=args.width // args.heads, feed_forward=args.feed_forward, tied_embeddings=args.tied, head_rank=args.head_rank,
    )
    model, seconds, loss = measure_as_it_fits(config, args)
    tokens = args.sequences * args.length
    median = statistics.median(seconds)
    quartiles = statistics.quantiles(seconds, n=4)
    flops = flops_per_token(model, config, args.length)
    print(json.dumps({
        "system": "pytorch", "torch": torch.__version__,
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or platform.machine(),
        "micro_batch": args.micro_batch, "threads": torch.get_num_threads(), "compiled": args.compile, "dtype": args.dtype,
        "config": vars(config), "sequences": args.sequences, "sequence_length": args.length,
        "parameters": sum(p.numel() for p in model.parameters()), "flops_per_token": flops, "timed_steps": len(seconds),
        "loss": loss, "step_seconds": median, "step_seconds_quartiles": [quartiles[0], quartiles[2]],
        "tokens_per_second": tokens / median, "gflops_per_second": flops * tokens / median / 1e9,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if args.device == "cuda" else None,
    }))


if __name__ == "__main__":
    main()
