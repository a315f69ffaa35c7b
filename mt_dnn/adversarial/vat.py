"""vat: virtual adversarial training, SMART's smoothness term. Also the class that vat and tat share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

from pydantic import Field, NonNegativeFloat, model_validator
from torch import Tensor

from mt_dnn.adversarial.base import (
    LEVELS,
    MEASURES,
    REGRESSION,
    STOP_GRADIENT,
    DivergenceName,
    LevelName,
    Options,
    Radius,
    Regularized,
)
from mt_dnn.adversarial.perturbation import (
    NORMALIZE_EPS,
    gaussian,
    guarded,
    norms,
    per_sentence,
    report_gradient_share,
    report_size,
    unit,
)
from mt_dnn.adversarial.replay import Replay
from mt_dnn.adversarial.view import View
from mt_dnn.section import PositiveInt, Section
from mt_dnn.tasks.losses import StopGradient


class BregmanOptions(Section):
    """SMART's Bregman proximal point. It adds the term μ · l_s(f_θ̄(x), f_θ(x)) to the loss.

    θ̄ are averaged weights: θ̄ ← β θ̄ + (1 − β) θ after each update.
    """

    mu: NonNegativeFloat = Field(1.0, description="weight of the term")
    beta: float = Field(0.99, ge=0, le=1, description="decay of the averaged weights during warm-up")
    beta_after_warmup: float = Field(0.999, ge=0, le=1, description="decay after warm-up")


class VirtualOptions(Options):
    """Settings of vat and tat."""

    level: LevelName = Field(
        "words", description="what δ is added to: word embeddings, or the output of the whole embedding module"
    )
    steps: PositiveInt = Field(1, description="K, gradient steps to the perturbation")
    noise_std: NonNegativeFloat = Field(1e-5, description="σ of the first perturbation, N(0, σ²)")
    step_size: NonNegativeFloat = Field(1e-4, description="η, factor on the gradient of each example's objective")
    radius: Radius = Field(1e-5, description="ε, bound of every entry of the perturbation; null: no bound")
    projection: Literal["clip", "normalize"] = Field(
        "clip", description="clip: entries into [−ε, ε]; normalize: ε·δ/(‖δ‖∞ + 1e-6) per token"
    )
    normalize_gradient: Literal["none", "token", "sentence"] = Field(
        "none", description="divide the gradient by the norm of each token or sentence"
    )
    gradient_norm: Literal["2", "inf"] = Field("inf", description="norm that normalize_gradient divides by")
    weight: NonNegativeFloat = Field(1.0, description="α, weight of the regulariser")
    divergence: DivergenceName | None = Field(
        None,
        description=f"l_s, the measure that compares outputs: {MEASURES}. default: adv_loss in the task file, which is "
        f"sym_kl if it is not given; {REGRESSION}",
    )
    stop_gradient: StopGradient = Field("target", description=STOP_GRADIENT)
    reuse_dropout_mask: bool = Field(False, description="the same dropout masks in all passes")

    @model_validator(mode="after")
    def _all_read(self) -> VirtualOptions:
        reads = {"gradient_norm"} if self.normalize_gradient != "none" else set()
        self._refuse_unread("normalize_gradient: none", {"gradient_norm"}, reads)
        if self.projection == "normalize" and self.radius is None:
            raise ValueError("radius: projection: normalize makes it the largest entry of a token; write a number")
        return self


class VATOptions(VirtualOptions):
    """Settings of vat."""

    mode: Literal["vat"] = "vat"
    bregman: BregmanOptions | None = Field(None, description="SMART's second half; default: off")


Objective = Callable[[Tensor], Tensor]  # logits (N, C) → value of each example (B,)
OptionsT = TypeVar("OptionsT", bound=VirtualOptions)


class Virtual(Regularized[OptionsT]):
    """l(f(x), y) + α · l_s(f(x), f(x + δ)), where δ comes from K gradient steps that ascend an objective.

    VAT and TAT differ in the objective. As in the papers' boxes, a step uses the gradient of each example's objective,
    which does not depend on the batch size.

    ``reuses_clean_pass``: the first step uses the gradient of the clean pass, at δ = 0. Otherwise a pass with noise
    gives this gradient.
    """

    reuses_clean_pass = False

    def cost_floor(self, blocks: float) -> float:
        return (6 + 2 * self.options.steps - self.reuses_clean_pass) / 3

    def __call__(self, network: View) -> Iterator[Tensor]:
        options = self.options
        level = LEVELS[options.level]
        state = network.upto(level)
        if self.reuses_clean_pass and not state.requires_grad:
            state.requires_grad_()  # embeddings are frozen, but the first step differentiates by them
        clean_state = self.clean_state(network, state)
        replay = Replay(network, enabled=options.reuse_dropout_mask)
        with replay:
            clean = network.resume(clean_state, level)
        delta = self.perturbation(network, state, clean, replay)
        with replay:
            perturbed = network.resume(state + delta, level)
        regularizer = self.regularizer(network, clean, perturbed)
        network.report_loss("regularizer", regularizer)
        yield network.loss(clean) + options.weight * regularizer + self.further_term(network, clean)

    def clean_state(self, network: View, state: Tensor) -> Tensor:
        """The state from which the clean pass runs, (T, H). ``state``: the one that δ is added to.

        The embedding module has dropout. The clean pass has a mask of its own there, as in the released MT-DNN code,
        unless all passes share their masks or the first gradient is that of the clean pass.
        """
        if self.options.level == "words" or self.options.reuse_dropout_mask or self.reuses_clean_pass:
            return state
        return network.upto(LEVELS[self.options.level])

    def clean_passes(self, network: View) -> tuple[Tensor, Tensor]:
        level = LEVELS[self.options.level]
        state = network.upto(level)
        clean_state = self.clean_state(network, state)
        replay = Replay(network, enabled=self.options.reuse_dropout_mask)
        with replay:
            first = network.resume(clean_state, level)
        with replay:
            second = network.resume(state, level)
        return first, second

    def perturbation(self, network: View, state: Tensor, clean: Tensor, replay: Replay) -> Tensor:
        """δ after K steps, (T, H), detached."""
        fixed = state.detach()
        delta = start = gaussian(network, fixed, self.options.noise_std)
        objective = self.objective(network, clean.detach())
        step_norms = start.new_zeros(network.batch.size)
        for k in range(self.options.steps):
            if k == 0 and self.reuses_clean_pass:
                gradient = network.gradient(objective(clean).mean(), state, keep_graph=True)
            else:
                delta = delta.detach().requires_grad_()
                with replay:
                    logits = network.resume(fixed + delta, LEVELS[self.options.level], trains=False)
                value = objective(logits).mean()
                gradient = network.gradient(value, delta)
            gradient = gradient * network.batch.size  # from the mean to each example; a sum may overflow in fp16
            step = self.options.step_size * self._normalized(gradient, network)
            if network.reports:
                step_norms += per_sentence(step, network.batch).nan_to_num(0.0, 0.0)
            delta = guarded(self._projected(delta.detach() + step, network), start, gradient, network)
        report_size(network, delta, fixed)
        report_gradient_share(network, start, step_norms)
        return delta

    @abstractmethod
    def objective(self, network: View, clean: Tensor) -> Objective:
        """Returns the function that δ ascends: logits (N, C) → one value per example, (B,).

        ``clean``: detached logits (N, C).
        """

    def further_term(self, network: View, clean: Tensor) -> Tensor | float:
        """A further term of the loss, a scalar. By default there is none."""
        return 0.0

    def _normalized(self, gradient: Tensor, network: View) -> Tensor:
        scope, order = self.options.normalize_gradient, self.options.gradient_norm
        return gradient if scope == "none" else unit(gradient, network.batch, scope=scope, order=order)

    def _projected(self, delta: Tensor, network: View) -> Tensor:
        radius = self.options.radius
        if radius is None:
            return delta
        if self.options.projection == "clip":
            return delta.clamp(-radius, radius)
        return radius * delta / (norms(delta, network.batch, scope="token", order="inf") + NORMALIZE_EPS)


class VAT(Virtual[VATOptions]):
    """δ ascends l_s(sg(f(x)), f(x + δ)), sg: no gradient (Jiang et al. 2020, eq. 2; Pereira et al. 2021, eq. 1)."""

    options_type = VATOptions

    def objective(self, network: View, clean: Tensor) -> Objective:
        name = self.options.divergence  # the option stop_gradient is for the weights; δ follows the full gradient
        return lambda logits: network.divergence(clean, logits, name=name, stop_gradient="none", reduction="none")

    def further_term(self, network: View, clean: Tensor) -> Tensor | float:
        """SMART's second half, μ · l_s(f_θ̄(x), f_θ(x)), if the option ``bregman`` is set."""
        bregman = self.options.bregman
        if bregman is None:
            return 0.0
        average, options = network.averaged_logits(), self.options
        term = network.divergence(average, clean, name=options.divergence, stop_gradient=options.stop_gradient)
        network.report_loss("bregman", term)
        return bregman.mu * term
