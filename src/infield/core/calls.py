"""How often an object is called: what a sample costs, in network evaluations and applications of the operator."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor


class Calls:
    """Counts the fields (or data) that an object's methods are given, through a shallow copy of it that is otherwise
    the same.

    Arguments:
        subject: The object.
        methods: Names of its methods.
        derivatives: Count also the backward passes of autograd through what they return.
        pairs: Names of methods, which it may lack, that stand for a map and its adjoint: each field counts twice.
    """

    def __init__(self, subject: Any, *methods: str, derivatives: bool = False, pairs: tuple[str, ...] = ()) -> None:
        self.fields = 0
        self.derivatives = derivatives
        self.counted = copy.copy(subject)
        for method in methods:
            object.__setattr__(self.counted, method, self._counting(getattr(subject, method)))
        for method in pairs:
            if hasattr(subject, method):
                object.__setattr__(self.counted, method, self._counting(getattr(subject, method), 2))

    def _counting(self, method: Callable[..., Any], each: int = 1) -> Callable[..., Any]:
        def call(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.fields += each * len(x)
            result = method(x, *args, **kwargs)
            if self.derivatives and result.requires_grad:
                result.register_hook(self._count)
            return result

        return call

    def _count(self, gradient: Tensor) -> None:
        self.fields += len(gradient)
