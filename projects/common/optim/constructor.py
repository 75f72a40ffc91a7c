"""Parameter groups of optimizers: one for each combination of options, not one per parameter."""

from __future__ import annotations

from functools import partial
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

__all__ = ['MergedOptimWrapperConstructor']


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Merge the parameter groups of MMEngine's default constructor that have equal options.

    With ``paramwise_cfg``, MMEngine makes a group of each parameter. Optimizers launch their
    kernels, and schedulers set their rates, group by group, which takes a GPU's host more time than
    the forward and backward passes. The parameters of a group keep their order. Optimizers still
    load states with a group of each parameter. The arguments are those of MMEngine's constructor.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper of a model."""
        self._members: list[list[int]] = []
        wrapper = super().__call__(model)
        if self._members:
            wrapper.optimizer.register_load_state_dict_pre_hook(
                partial(_merge_saved_groups, self._members)
            )
        return wrapper

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: Any = None
    ) -> None:
        """Add the parameters of a module to ``params``, and merge them if it is the whole model.

        Args:
            params: Groups, changed in place.
            module: The module.
            prefix: Name of the module in the model; empty for the model itself.
            is_dcn_module: See MMEngine's method.
        """
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:
            return
        members: dict[tuple, list[int]] = {}
        for i, group in enumerate(params):
            options = sorted((key, repr(value)) for key, value in group.items() if key != 'params')
            members.setdefault(tuple(options), []).append(i)
        self._members = list(members.values())
        params[:] = [
            {**params[places[0]], 'params': [p for i in places for p in params[i]['params']]}
            for places in self._members
        ]


def _merge_saved_groups(members: list[list[int]], optimizer: Any, saved: dict) -> dict:
    """Merge the groups of a saved state that has one for each parameter; return others as given."""
    groups = saved['param_groups']
    if len(groups) == len(members) or len(groups) != sum(map(len, members)):
        return saved
    order = [groups[i]['params'][0] for places in members for i in places]
    number = {old: new for new, old in enumerate(order)}
    return {
        **saved,
        'state': {number[old]: state for old, state in saved['state'].items()},
        'param_groups': [
            {**groups[places[0]], 'params': [number[groups[i]['params'][0]] for i in places]}
            for places in members
        ],
    }
