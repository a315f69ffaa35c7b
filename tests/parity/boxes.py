"""The algorithm boxes of the papers, written out one example at a time on plain transformers models.

Nothing here comes from the toolkit: it is what the toolkit is held to. Each box draws its noise from one stream per
example, all made from ``seed``, makes its backward passes, and returns the loss; the gradients stand in the parameters.
Keyword arguments carry the names of the toolkit's settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Example:
    """n tokens with their types, and the gold answer: a class (integer) or a value (float), both scalars.

    The tokens are those of one sentence, or of one per choice, of these sizes; gold is then the right choice.
    Where a head reads tokens, gold is a vector: the classes of those that ``read`` lists, or, where it lists none, the
    first and the last token of a span.
    """

    ids: Tensor
    types: Tensor
    gold: Tensor
    sizes: list[int]
    read: list[int] | None = None
    two_way: bool = False  # gold is a vector of yes (1) and no (0), one for each class

    @property
    def reads(self) -> int:
        """How many vectors the head reads."""
        return len(self.sizes) if self.read is None else len(self.read) or len(self.ids)


class Ordered(nn.Module):
    """P(y ≤ k) = σ(θ_k − w·v − b), θ growing by softplus(gaps) (McCullagh 1980, section 2)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        self.lowest, self.gaps = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(classes - 2))


class Vocabulary(nn.Module):
    """BERT's masked language modelling head but its output layer, which is the word table."""

    def __init__(self, width: int, words: int, eps: float) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width, eps)
        self.bias = nn.Parameter(torch.zeros(words))


@dataclass
class Net:
    """A transformers model and a head, mostly a linear layer, in training mode without dropout."""

    encoder: Any
    head: nn.Linear | Ordered | Vocabulary
    spectral: bool = False  # the head's linear layer divided by its largest singular value

    def parameters(self) -> dict[str, Tensor]:
        parts = (("encoder", self.encoder), ("head.linear" if isinstance(self.head, nn.Linear) else "head", self.head))
        return {f"{part}.{name}": p for part, module in parts for name, p in module.named_parameters()}

    def words(self, e: Example) -> Tensor:
        """x, (n, H): the rows of the word table."""
        return self.encoder.embeddings.word_embeddings.weight[e.ids]

    def f(self, x: Tensor, e: Example, masks: Tensor | None = None) -> Tensor:
        """Logits (C,), or one row per answer, of word vectors; ``masks`` multiply the vectors that the head reads."""
        vectors = []
        for rows, types in zip(x.split(e.sizes), e.types.split(e.sizes), strict=True):
            out = self.encoder(inputs_embeds=rows[None], token_type_ids=types[None])
            vectors.append(out.pooler_output if e.read is None else out.last_hidden_state[0])
        return self.logits(torch.cat(vectors), e, masks)

    def h(self, x: Tensor, e: Example, level: int | str) -> Tensor:
        """h_r, (n, H); at level 0 it is x itself, at ``embeddings`` the output of the whole embedding module."""
        if level == 0:
            return x
        states = []
        for rows, types in zip(x.split(e.sizes), e.types.split(e.sizes), strict=True):
            state = self.encoder.embeddings(inputs_embeds=rows[None], token_type_ids=types[None])
            for number in range(blocks_below(level)):
                state = self.encoder.encoder.layer[number](state)
            states.append(state[0])
        return torch.cat(states)

    def f_from(self, h: Tensor, e: Example, level: int | str) -> Tensor:
        """f_r: logits (C,) of the state at a level."""
        if level == 0:
            return self.f(h, e)
        vectors = []
        for rows in h.split(e.sizes):
            state = rows[None]
            for number in range(blocks_below(level), len(self.encoder.encoder.layer)):
                state = self.encoder.encoder.layer[number](state)
            vectors.append(self.encoder.pooler(state) if e.read is None else state[0])
        return self.logits(torch.cat(vectors), e)

    def logits(self, vectors: Tensor, e: Example, masks: Tensor | None = None) -> Tensor:
        """The head on one vector per sentence, or on those of the tokens that it reads."""
        if e.read:
            vectors = vectors[e.read]
        if masks is not None and not isinstance(self.head, Vocabulary):  # BERT's has no dropout
            vectors = vectors * masks
        scores = self.scores(vectors)
        if e.read is None:
            scores = scores.flatten()  # classes of the one sentence, or one score per choice
            return torch.stack([0 * scores, scores], 1) if e.two_way else scores
        return scores if e.read else scores.T

    def scores(self, vectors: Tensor) -> Tensor:
        """What the head makes of each vector."""
        if isinstance(self.head, Ordered):
            gaps = F.softplus(self.head.gaps).cumsum(0)
            thresholds = torch.cat([self.head.lowest, self.head.lowest + gaps])
            below = torch.sigmoid(thresholds - self.linear(self.head.linear, vectors))
            return (F.pad(below, (0, 1), value=1.0) - F.pad(below, (1, 0), value=0.0)).log()
        if isinstance(self.head, Vocabulary):
            states = self.head.norm(F.gelu(self.linear(self.head.dense, vectors)))
            return states @ self.encoder.embeddings.word_embeddings.weight.T + self.head.bias
        return self.linear(self.head, vectors)

    def linear(self, layer: nn.Linear, vectors: Tensor) -> Tensor:
        largest = torch.linalg.matrix_norm(layer.weight, 2) if self.spectral else 1.0
        return vectors @ (layer.weight / largest).T + layer.bias


def blocks_below(level: int | str) -> int:
    return 0 if isinstance(level, str) else level


def loss_of(z: Tensor, y: Tensor) -> Tensor:
    """−log p_y, or the squared error of a value; logits are (C,). The mean where there are several answers."""
    if z.dim() == 2:
        return torch.stack([loss_of(*one) for one in zip(z, y, strict=True)]).mean()
    return (z[0] - y) ** 2 if y.is_floating_point() else torch.logsumexp(z, 0) - z[y]


def kl(z: Tensor, other: Tensor) -> Tensor:
    """Σ_c p_c log(p_c / q_c)."""
    p, q = z.softmax(0), other.softmax(0)
    return (p * (p / q).log()).sum()


def distance(e: Example, z: Tensor, z2: Tensor, name: str | None, stop_gradient: str) -> Tensor:
    """l_s(z, z~); with ``target`` the first argument of each term is a constant. The mean over several answers.

    With ``kl_target`` so is that of each KL term, but nothing of a squared difference.
    """
    if z.dim() == 2:
        one = Example(e.ids, e.types, e.gold[0], e.sizes)
        return torch.stack([distance(one, a, b, name, stop_gradient) for a, b in zip(z, z2, strict=True)]).mean()
    hold: Callable[[Tensor], Tensor] = (lambda t: t) if stop_gradient == "none" else Tensor.detach
    if e.gold.is_floating_point():
        return ((hold(z) if stop_gradient == "target" else z)[0] - z2[0]) ** 2
    if name == "kl":
        return kl(hold(z), z2)
    if name in (None, "sym_kl"):
        return kl(hold(z), z2) + kl(hold(z2), z)
    p, q = hold(z).softmax(0), z2.softmax(0)
    if name == "js":
        m = (p + q) / 2
        return 0.5 * (p * (p / m).log()).sum() + 0.5 * (q * (q / m).log()).sum()
    assert name == "hellinger"
    return 0.5 * ((p.sqrt() - q.sqrt()) ** 2).sum()


def trained(loss: Tensor) -> Tensor:
    """Adds the loss's gradients to the parameters; returns it."""
    loss.backward()
    return loss.detach()


def stream(seed: int, place: int, number: int) -> torch.Generator:
    """The random numbers of the ``number``-th draw: stream 0 is the batch's, example i has stream i + 1."""
    words = np.random.SeedSequence((seed, place, number)).generate_state(2)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def noise_of(
    net: Net, examples: Sequence[Example], seed: int, draw: Callable[..., Tensor], number: int = 1
) -> list[Tensor]:
    """One (n, H) per example."""
    width = net.encoder.config.hidden_size
    return [draw((len(e.ids), width), generator=stream(seed, i + 1, number)) for i, e in enumerate(examples)]


def frobenius(matrix: Tensor) -> float:
    return math.sqrt((matrix.detach() ** 2).sum().item())


def into_ball(delta: Tensor, radius: float) -> Tensor:
    """Π_{‖δ‖_F ≤ ε}; several choices are one concatenation (FreeLB paper, appendix A.1)."""
    return delta * (radius / frobenius(delta)) if frobenius(delta) > radius else delta


@dataclass
class Ball:
    """α, ε and the size of δ_0."""

    step_size: float
    radius: float
    init_magnitude: float


def started(net: Net, examples: Sequence[Example], seed: int, ball: Ball) -> list[Tensor]:
    """δ_0 = U(−1, 1) · magnitude / √(n·H), in the ball (FreeLB paper, box 1)."""
    deltas = []
    for e, drawn in zip(examples, noise_of(net, examples, seed, torch.rand), strict=True):
        scaled = (2 * drawn - 1) * ball.init_magnitude / math.sqrt(len(e.ids) * drawn.shape[1])
        deltas.append(into_ball(scaled, ball.radius))
    return deltas


def ascended(delta: Tensor, g: Tensor, ball: Ball) -> Tensor:
    """Π(δ + α g/‖g‖_F) (FreeLB paper, box 1)."""
    return into_ball(delta.detach() + ball.step_size * g / frobenius(g), ball.radius)


def none(net: Net, examples: Sequence[Example], seed: int) -> Tensor:
    """Mean of l(f(x), y)."""
    return trained(sum((loss_of(net.f(net.words(e), e), e.gold) for e in examples), torch.zeros(())) / len(examples))


def virtual(
    net: Net,
    examples: Sequence[Example],
    seed: int,
    *,
    steps: int,
    noise_std: float,
    step_size: float,
    radius: float,
    level: str = "words",
    projection: str = "clip",
    normalize_gradient: str = "none",
    gradient_norm: str = "inf",
    weight: float = 1.0,
    divergence: str | None = None,
    stop_gradient: str = "target",
    targets: Sequence[Tensor] | None = None,
    reuse_clean_pass: bool = False,
    bregman: Mapping[str, float] | None = None,
    slow: Net | None = None,
) -> Tensor:
    """VAT; with targets TAT, where δ descends toward them (TAT paper, eq. 1 and box 1).

    With ``reuse_clean_pass`` the first gradient is taken at δ = 0. ``slow`` holds SMART's averaged weights.
    """
    below: int | str = 0 if level == "words" else level
    total = torch.zeros(())
    for i, noise in enumerate(noise_of(net, examples, seed, torch.randn)):
        e, delta = examples[i], noise_std * noise
        x = net.h(net.words(e), e, below)
        z = net.f(net.words(e), e)
        for k in range(steps):
            at = (torch.zeros_like(delta) if k == 0 and reuse_clean_pass else delta).requires_grad_()
            z2 = net.f_from(x.detach() + at, e, below)
            inner = distance(e, z.detach(), z2, divergence, "none") if targets is None else -loss_of(z2, targets[i])
            (g,) = torch.autograd.grad(inner, at)
            if normalize_gradient != "none":
                parts = [g] if normalize_gradient == "sentence" else list(g)
                scaled = [part / (part.abs().max() if gradient_norm == "inf" else frobenius(part)) for part in parts]
                g = torch.cat(scaled).view_as(g)
            delta = delta.detach() + step_size * g
            if projection == "clip":
                delta = torch.minimum(torch.maximum(delta, torch.tensor(-radius)), torch.tensor(radius))
            else:
                delta = torch.stack([radius * row / (row.abs().max() + 1e-6) for row in delta])
        total = total + loss_of(z, e.gold)
        total = total + weight * distance(e, z, net.f_from(x + delta, e, below), divergence, stop_gradient)
        if bregman is not None and slow is not None:
            old = slow.f(slow.words(e), e).detach()
            total = total + bregman["mu"] * distance(e, old, z, divergence, stop_gradient)
    return trained(total / len(examples))


def freelb(
    net: Net, examples: Sequence[Example], seed: int, *, passes: int, include_clean: bool = False, **sizes: float
) -> Tensor:
    """K backward passes of l/K; weights and δ take their gradients from the same one (FreeLB paper, box 1).

    A clean pass more, where wanted, counts as much as each of the others.
    """
    share = 1 / (passes + 1) if include_clean else 1 / passes
    ball, whole = Ball(**sizes), torch.zeros(())
    deltas = started(net, examples, seed, ball)
    if include_clean:
        clean = sum((loss_of(net.f(net.words(e), e), e.gold) for e in examples), torch.zeros(()))
        whole += trained(clean / len(examples) * share)
    for _ in range(passes):
        for i, e in enumerate(examples):
            delta = deltas[i].clone().requires_grad_()
            whole += trained(loss_of(net.f(net.words(e) + delta, e), e.gold) / len(examples) * share)
            assert delta.grad is not None
            deltas[i] = ascended(delta, delta.grad, ball)
    return whole


def freelb_scripts(
    net: Net,
    examples: Sequence[Example],
    seed: int,
    *,
    adv_steps: int,
    adv_lr: float,
    max_norm: float,
    rand_init_mag: float,
) -> Tensor:
    """FreeLB as its public scripts count: a pass at the first noise, then one after each of m steps, 1/(m + 1) each.

    The noise is not projected before the first step. Argument names are those of the scripts.
    """
    losses = torch.zeros(())
    deltas = started(net, examples, seed, Ball(adv_lr, math.inf, rand_init_mag))
    for t in range(adv_steps + 1):
        for i, e in enumerate(examples):
            delta = deltas[i].clone().requires_grad_()
            losses += trained(loss_of(net.f(net.words(e) + delta, e), e.gold) / len(examples) / (1 + adv_steps))
            assert delta.grad is not None
            if t < adv_steps:
                moved = deltas[i] + adv_lr * delta.grad / max(frobenius(delta.grad), 1e-10)
                deltas[i] = into_ball(moved, max_norm)
    return losses


def pgd(net: Net, examples: Sequence[Example], seed: int, *, passes: int, **sizes: float) -> Tensor:
    """K steps of δ, then one backward pass at δ_K."""
    ball, total = Ball(**sizes), torch.zeros(())
    for e, delta in zip(examples, started(net, examples, seed, ball), strict=True):
        for _ in range(passes):
            delta = delta.detach().requires_grad_()
            (g,) = torch.autograd.grad(loss_of(net.f(net.words(e).detach() + delta, e), e.gold), delta)
            delta = ascended(delta, g, ball)
        total = total + loss_of(net.f(net.words(e) + delta, e), e.gold)
    return trained(total / len(examples))


def freeat(net: Net, examples: Sequence[Example], seed: int, *, passes: int, lr: float, **sizes: float) -> Tensor:
    """K replays of the batch with a step of plain gradient descent after each; the mean of their losses.

    δ carries over from replay to replay (Shafahi et al. 2019, box 1). The last gradients stay in the parameters.
    """
    ball, whole = Ball(**sizes), torch.zeros(())
    deltas = started(net, examples, seed, ball)
    for _ in range(passes):
        net.encoder.zero_grad()
        net.head.zero_grad()
        for i, e in enumerate(examples):
            delta = deltas[i].clone().requires_grad_()
            whole += trained(loss_of(net.f(net.words(e) + delta, e), e.gold) / len(examples)) / passes
            assert delta.grad is not None
            deltas[i] = ascended(delta, delta.grad, ball)
        with torch.no_grad():
            for weight in net.parameters().values():
                if weight.grad is not None:  # heads that read tokens leave out the pooler
                    weight -= lr * weight.grad
    return whole


def yopo(net: Net, examples: Sequence[Example], seed: int, *, passes: int, inner_steps: int, **sizes: float) -> Tensor:
    """YOPO-m-n: after each of m full passes n steps along ∇_δ⟨p, h_1(x + δ)⟩, p constant (Zhang et al. 2019, box 1)."""
    ball, whole = Ball(**sizes), torch.zeros(())
    deltas = started(net, examples, seed, ball)
    for _ in range(passes):
        for i, e in enumerate(examples):
            h_1 = net.h(net.words(e) + deltas[i], e, 1)
            h_1.retain_grad()
            whole += trained(loss_of(net.f_from(h_1, e, 1), e.gold) / len(examples) / passes)
            p = h_1.grad
            assert p is not None
            for _ in range(inner_steps):
                delta = deltas[i].clone().requires_grad_()
                (g,) = torch.autograd.grad((p * net.h(net.words(e).detach() + delta, e, 1)).sum(), delta)
                deltas[i] = ascended(delta, g, ball)
    return whole


def rapt(
    net: Net,
    examples: Sequence[Example],
    seed: int,
    *,
    max_layer: int,
    magnitude: float,
    level: str = "words",
    norm: str = "sentence",
    weight: float = 1.0,
    divergence: str | None = "kl",
    stop_gradient: str = "target",
) -> Tensor:
    """Noise of largest entry η on the states of a random block; the rest runs twice (RAPT paper, box 1)."""
    r: int | str = 0 if level == "words" else level
    if max_layer > 0:
        r = int(torch.randint(1, max_layer + 1, (), generator=stream(seed, 0, 1)))
    total = torch.zeros(())
    drawn = noise_of(net, examples, seed, torch.randn, number=2 if max_layer > 0 else 1)
    for e, noise in zip(examples, drawn, strict=True):
        rows = noise.split(len(noise) if norm == "sentence" else 1)
        delta = torch.cat([magnitude * row / row.abs().max() for row in rows])
        h = net.h(net.words(e), e, r)
        z, z2 = net.f_from(h, e, r), net.f_from(h + delta, e, r)
        total = total + loss_of(z, e.gold) + weight * distance(e, z, z2, divergence, stop_gradient)
    return trained(total / len(examples))


def r3f(
    net: Net,
    examples: Sequence[Example],
    seed: int,
    *,
    noise: str,
    epsilon: float,
    level: str = "words",
    weight: float = 1.0,
) -> Tensor:
    """l + λ (KL(p‖q) + KL(q‖p)) with gradients through both; values have no such term (Aghajanyan et al. 2021)."""
    drawn = noise_of(net, examples, seed, torch.randn if noise == "normal" else torch.rand)
    total = torch.zeros(())
    for e, one in zip(examples, drawn, strict=True):
        below: int | str = 0 if level == "words" else level
        x, delta = net.h(net.words(e), e, below), epsilon * (one if noise == "normal" else 2 * one - 1)
        z = net.f(net.words(e), e)
        total = total + loss_of(z, e.gold)
        if not e.gold.is_floating_point():
            total = total + weight * distance(e, z, net.f_from(x + delta, e, below), "sym_kl", "none")
    return trained(total / len(examples))


def rdrop(
    net: Net, examples: Sequence[Example], seed: int, *, weight: float = 1.0, head_dropout: float = 0.0
) -> Tensor:
    """½(l₁ + l₂) + α ½ (d(z₁, z₂) + d(z₂, z₁)) of two dropout masks, here the head's (Liang et al. 2021)."""
    torch.manual_seed(seed)
    sizes = [e.reads for e in examples]
    masks = F.dropout(torch.ones(2 * sum(sizes), net.encoder.config.hidden_size), head_dropout).split(2 * sizes)
    total = torch.zeros(())
    for i, e in enumerate(examples):
        z, z2 = (net.f(net.words(e), e, masks[j]) for j in (i, len(examples) + i))
        apart = distance(e, z, z2, "kl", "none") + distance(e, z2, z, "kl", "none")
        total = total + 0.5 * (loss_of(z, e.gold) + loss_of(z2, e.gold)) + weight * 0.5 * apart
    return trained(total / len(examples))


# R4F is R3F on a net whose head is divided by its largest singular value.
BOXES: Mapping[str, Callable[..., Tensor]] = {
    "none": none,
    "vat": virtual,
    "tat": virtual,
    "freelb": freelb,
    "pgd": pgd,
}
BOXES = {**BOXES, "freeat": freeat, "yopo": yopo, "rapt": rapt, "r3f": r3f, "r4f": r3f, "rdrop": rdrop}
