"""A network and all that trains it: optimizer, gradient scaling, clipping and the average of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reid_core.config import TrainConfig
from reid_core.engine.ema import MovingAverage
from reid_core.engine.optim import OptimizerSettings, build_optimizer, replace_parameter, set_rate
from reid_core.errors import NumericalError
from reid_core.models._network import Network

Update = Literal["made", "no loss", "overflow"]


class Learner:
    """One network of a run in training.

    Each network has its own scaler: an overflow in one must not skip the other's step.

    Args:
        network: on its device.
        optimizer: of its trainable parameters.
        clip: bound of the norm of all its gradients together; 0: none.
        scaler: for forward passes in float16, else None.
        average: of its weights, or None.
        watch: half precision without a scaler: check that gradients are finite even where nothing is clipped.
    """

    def __init__(
        self,
        network: Network,
        optimizer: torch.optim.Optimizer,
        clip: float = 0.0,
        scaler: torch.amp.GradScaler | None = None,
        average: MovingAverage | None = None,
        watch: bool = False,
    ) -> None:
        self.network, self.optimizer, self.clip = network, optimizer, clip
        self.scaler, self.average, self.watch = scaler, average, watch
        self._weight = 0.0
        # What the backbone trains at all: freezing and thawing touches no other parameter.
        self._body = [name for name, p in network.backbone.named_parameters() if p.requires_grad]

    def prepare(self, frozen: bool, dropout: bool) -> None:
        """Training mode. A frozen backbone takes no gradient and keeps its statistics: it is in evaluation mode."""
        self.network.train()
        parameters = dict(self.network.backbone.named_parameters())
        for name in self._body:
            parameters[name].requires_grad_(not frozen)
        if frozen:
            self.network.backbone.eval()
        set_dropout(self.network, active=dropout)

    def set_rate(self, factor: float) -> None:
        """Rates of the next update, as a factor of the base rates."""
        set_rate(self.optimizer, factor)

    def begin(self) -> None:
        """Forget all gradients: the next update begins to gather."""
        self.optimizer.zero_grad(set_to_none=True)
        self._weight = 0.0

    def scaled(self, loss: Tensor, weight: float) -> Tensor:
        """What to take the gradient of for a batch of ``weight``; the update divides by the sum of the weights."""
        self._weight += weight
        loss = loss if weight == 1.0 else loss * weight
        return loss if self.scaler is None else self.scaler.scale(loss)

    def update(self, where: str) -> Update:
        """One step of the optimizer with the mean of the gradients gathered.

        Without any loss since :meth:`begin`, optimizer, scaler and average all skip it.

        Args:
            where: said in the error.

        Returns:
            What became of it: ``made``; ``no loss``; or ``overflow``, where a scaled gradient was not finite and the
            scaler went down instead.

        Raises:
            NumericalError: a gradient is not finite, and there is no scaler whose business that is.
        """
        if self._weight == 0.0:
            return "no loss"
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        if self._weight != 1.0:
            torch._foreach_div_(gradients, self._weight)
        if gradients and (self.clip > 0 or self.watch):
            norm = nn.utils.get_total_norm(gradients)
            if self.scaler is None and not bool(torch.isfinite(norm)):
                advice = "Start again with a lower --lr, or with a lower --new_layer_mult"
                if self.watch:
                    advice = (
                        "Half precision cannot train every network at every image size on every device: use --amp off, a "
                        "larger --image_size, or a lower --lr"
                    )
                raise NumericalError(
                    f"a gradient is not finite in {where}, though the loss is; no update was made with it. {advice}"
                )
            if self.clip > 0:
                nn.utils.clip_grads_with_norm_(
                    [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None],
                    self.clip,
                    norm,
                )
        changed = True
        if self.scaler is None:
            self.optimizer.step()
        else:
            before = self.scaler.get_scale()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            # It goes down where a gradient overflowed and the step was skipped.
            changed = self.scaler.get_scale() >= before
        if changed and self.average is not None:
            self.average.update(self.network)
        return "made" if changed else "overflow"

    def set_image_size(self, size: tuple[int, int]) -> None:
        """Make network and average ready for images of another size; position tables may become new parameters."""
        before = dict(self.network.named_parameters())
        self.network.set_image_size(size)
        for name, parameter in self.network.named_parameters():
            if parameter is not before[name]:
                replace_parameter(self.optimizer, before[name], parameter)
        if self.average is not None:
            self.average.shadow.set_image_size(size)
            self.average.shadow.eval().requires_grad_(False)

    def state_dict(self) -> dict[str, Any]:
        """What is no tensor: the scaler's numbers, and how many updates the average has seen."""
        state: dict[str, Any] = {}
        if self.scaler is not None:
            state["scaler"] = self.scaler.state_dict()
        if self.average is not None:
            state["average_steps"] = self.average.steps
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        if self.scaler is not None:
            self.scaler.load_state_dict(dict(state["scaler"]))
        if self.average is not None:
            self.average.steps = int(state["average_steps"])


def set_dropout(network: nn.Module, active: bool) -> None:
    """Leave the dropout layers of a network in training mode as they are, or have them do nothing."""
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and not active:
            module.eval()


def build_learner(network: Network, config: TrainConfig, device: torch.device) -> Learner:
    """What trains ``network``, which is on ``device``, by a resolved configuration."""
    settings = OptimizerSettings(
        config.optimizer,
        config.lr or 0.01,
        config.new_layer_mult or 1.0,
        config.backbone_mult or 1.0,
        config.momentum,
        config.weight_decay,
        config.layer_decay,
        config.layer_decay_rate,
    )
    return Learner(
        network,
        build_optimizer(network, settings),
        config.clip_grad,
        torch.amp.GradScaler(device.type) if config.amp == "fp16" else None,
        MovingAverage(network, config.ema) if config.ema > 0 else None,
        watch=config.amp == "bf16",
    )
