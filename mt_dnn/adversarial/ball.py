"""Perturbations with a bounded Frobenius norm per sentence, for FreeLB, PGD, FreeAT and YOPO."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, NonNegativeFloat
from torch import Tensor

from mt_dnn.adversarial.base import Options, Radius
from mt_dnn.adversarial.perturbation import guarded, into_ball, report_gradient_share, report_size, uniform, unit
from mt_dnn.adversarial.replay import Replay
from mt_dnn.adversarial.view import View
from mt_dnn.section import PositiveInt


class BallOptions(Options):
    """Settings of FreeLB, PGD, FreeAT and YOPO."""

    passes: PositiveInt = Field(
        3, description="K, the number of passes (pgd: ascent steps; yopo: passes through all blocks)"
    )
    step_size: NonNegativeFloat = Field(0.1, description="α, length of a step along the normalised gradient")
    radius: Radius = Field(0.3, description="ε, largest Frobenius norm of a sentence's perturbation; null: no bound")
    init_magnitude: NonNegativeFloat = Field(
        0.1, description="first perturbation: U(−1, 1) · init_magnitude / √(tokens · hidden size)"
    )
    reuse_dropout_mask: bool = Field(True, description="the same dropout masks in all passes (section 3.3)")


def first_delta(state: Tensor, network: View, options: BallOptions) -> Tensor:
    """δ_0 = Π_{‖δ‖_F ≤ ε}(U(−1, 1) · init_magnitude / √(n_i · H)), (T, H) (Zhu et al. 2020, box 1).

    n_i is the number of tokens in example i.
    """
    tokens = network.batch.example_lengths[network.batch.example_ids][:, None]
    noise = uniform(network, state, options.init_magnitude) / (tokens * state.shape[1]).sqrt()
    return into_ball(noise, network.batch, options.radius)


def ascend(delta: Tensor, gradient: Tensor, start: Tensor, network: View, options: BallOptions) -> Tensor:
    """Makes one ascent step: Π_{‖δ‖_F ≤ ε}(δ + α g/‖g‖_F), (T, H), detached (Zhu et al. 2020, box 1).

    Norms are per sentence. An example whose gradient is not finite goes back to ``start``.
    """
    step = options.step_size * unit(gradient.float(), network.batch, scope="sentence")
    return guarded(into_ball(delta.detach() + step, network.batch, options.radius), start, gradient, network)


def free_passes(
    network: View, options: BallOptions, *, share: float = 1.0, include_clean: bool = False
) -> Iterator[Tensor]:
    """Yields the losses l(f(x + δ_t), y) · share for t = 0 … K−1.

    ``include_clean`` adds the loss l(f(x), y) · share before them.

    The caller runs ``backward()`` on each loss before it asks for the next. This also gives ∇_δ, which gives δ_{t+1}.

    The gradient of a look-up in the word table is as large as the table. So the words are looked up once. The passes
    before the last one add up their gradients in ``gathering``, and a hook adds this sum to the gradient of the last
    pass. If an optimizer step follows each pass, each pass looks the words up in the changed table.
    """
    words = network.upto(0)
    delta = start = first_delta(words, network, options)
    replay = Replay(network, enabled=options.reuse_dropout_mask)
    gathering = words.detach().requires_grad_()
    if include_clean:
        with replay:
            loss = network.loss(network.resume(words if network.steps_each_pass else gathering, 0))
        yield loss * share
    for t in range(options.passes):
        if t > 0:
            assert delta.grad is not None  # the caller has run backward
            delta = ascend(delta, delta.grad, start, network, options)
        if network.steps_each_pass:
            words = network.upto(0)
        delta = delta.requires_grad_()
        last = t + 1 == options.passes
        if last and gathering.grad is not None and words.requires_grad:
            words.register_hook(lambda gradient: gradient + gathering.grad)
        state = words if last or network.steps_each_pass else gathering
        with replay:
            loss = network.loss(network.resume(state + delta, 0))
        if t == 0:
            network.report_loss("first_pass_loss", loss)
        yield loss * share
    network.report_loss("last_pass_loss", loss)
    report_path(network, delta, start, words, options, steps=options.passes - 1)


def report_path(network: View, delta: Tensor, start: Tensor, state: Tensor, options: BallOptions, steps: int) -> None:
    """Reports the size of a perturbation after ``steps`` steps of length ``step_size``, and the gradient's share."""
    report_size(network, delta, state)
    report_gradient_share(network, start, start.new_full((network.batch.size,), steps * options.step_size))
