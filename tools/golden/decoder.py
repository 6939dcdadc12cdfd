"""Llama-style decoder made of PyTorch's own operators: the reference that Isthmus is compared with.

Every operator that PyTorch has is PyTorch's (embedding, rms_norm, scaled_dot_product_attention, silu, linear,
cross_entropy), and so are autograd and AdamW. PyTorch has no rotary embedding; here a pair of features is one complex
number that is multiplied by exp(i * angle), which shares no formula with a kernel that works on sines and cosines.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass
class Config:
    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-5
    tied_embeddings: bool = False
    head_rank: int = 0  # 0: full width


def rope_angles(config, length, dtype):
    """[length, head_dim / 2]: position over theta^(2i / head_dim)."""
    pair = torch.arange(config.head_dim // 2, dtype=torch.float64)
    frequency = config.rope_theta ** (-2 * pair / config.head_dim)
    return (torch.arange(length, dtype=torch.float64)[:, None] * frequency).to(dtype)


def rotate_complex(x, angles):
    """Rotates x [B, heads, T, head_dim], whose pairs are features i and i + head_dim / 2."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), dim=-1)


class RmsNorm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


class Attention(nn.Module):
    def __init__(self, config, rotate):
        super().__init__()
        self.config, self.rotate = config, rotate
        query, key = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.width, query, bias=False)
        self.k_proj = nn.Linear(config.width, key, bias=False)
        self.v_proj = nn.Linear(config.width, key, bias=False)
        self.o_proj = nn.Linear(query, config.width, bias=False)

    def forward(self, x, angles):
        batch, length, _ = x.shape
        split = lambda y: y.view(batch, length, -1, self.config.head_dim).transpose(1, 2)
        q = self.rotate(split(self.q_proj(x)), angles)
        k = self.rotate(split(self.k_proj(x)), angles)
        v = split(self.v_proj(x))
        grouped = self.config.kv_heads != self.config.heads
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.feed_forward, bias=False)
        self.up_proj = nn.Linear(config.width, config.feed_forward, bias=False)
        self.down_proj = nn.Linear(config.feed_forward, config.width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config, rotate):
        super().__init__()
        self.attention_norm = RmsNorm(config.width, config.norm_epsilon)
        self.attention = Attention(config, rotate)
        self.feed_forward_norm = RmsNorm(config.width, config.norm_epsilon)
        self.feed_forward = FeedForward(config)

    def forward(self, x, angles):
        x = x + self.attention(self.attention_norm(x), angles)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Head(nn.Module):
    """Full (weight [V, D]) or factorised (up.weight [V, R], down.weight [R, D])."""

    def __init__(self, config):
        super().__init__()
        if config.head_rank:
            self.down = nn.Linear(config.width, config.head_rank, bias=False)
            self.up = nn.Linear(config.head_rank, config.vocabulary, bias=False)
        else:
            self.weight = nn.Parameter(torch.empty(config.vocabulary, config.width))
            nn.init.normal_(self.weight, std=0.02)

    def forward(self, h):
        return F.linear(h, self.weight) if hasattr(self, "weight") else self.up(self.down(h))


class Decoder(nn.Module):
    """`rotate` turns queries and keys; another one than `rotate_complex` serves a compiler that fuses real arithmetic."""

    def __init__(self, config, rotate=rotate_complex):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config, rotate) for _ in range(config.layers))
        self.final_norm = RmsNorm(config.width, config.norm_epsilon)
        self.head = None if config.tied_embeddings else Head(config)

    def hidden(self, ids, angles):
        """States that enter the head, [B, T, D]."""
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, angles)
        return self.final_norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.embedding.weight) if self.head is None else self.head(hidden)

    def forward(self, ids, targets, angles):
        logits = self.logits(self.hidden(ids, angles))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def optimizer_groups(model, weight_decay):
    """Decay for all matrices, none for norms; biases don't exist."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    norms = [p for p in model.parameters() if p.dim() == 1]
    return [dict(params=matrices, weight_decay=weight_decay), dict(params=norms, weight_decay=0.0)]
