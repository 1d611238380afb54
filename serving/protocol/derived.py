"""Inputs that a request leaves out because they are made of others: by the code that training ran."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from slipway.components.contracts.bundle import Bundle
from slipway.components.support.expressions.evaluate import evaluate
from slipway.components.support.expressions.functions import Column
from slipway.components.support.expressions.parse import names, parse

_MOST_PLANS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make of what, where a request brings some inputs.

    Attributes:
        inputs: the inputs to make.
        expressions: theirs, and those of what they read and the request does not bring.
        read: what is not made, and must be there.
    """

    inputs: tuple[str, ...]
    expressions: dict[str, str]
    read: frozenset[str]


class Derivation:
    """The derived features of one model."""

    def __init__(self, bundle: Bundle) -> None:
        self._expressions = bundle.derived
        self._reads = {name: names(parse(text)) for name, text in bundle.derived.items()}
        self.inputs = [f.name for f in bundle.features if f.name in bundle.derived]
        self._plans: dict[frozenset[str], Plan] = {}

    def plan(self, there: Collection[str]) -> Plan:
        """What is to be made for a request that brings the inputs named; a value that came stands."""
        absent = frozenset(self._expressions).difference(there)
        plan = self._plans.get(absent)
        if plan is None:
            plan = self._make(absent)
            if len(self._plans) < _MOST_PLANS:
                self._plans[absent] = plan
        return plan

    def _make(self, absent: frozenset[str]) -> Plan:
        inputs = tuple(name for name in self.inputs if name in absent)
        made, read, left = {}, set(), list(inputs)
        while left:
            name = left.pop()
            if name not in absent:
                read.add(name)
            elif name not in made:
                made[name] = self._expressions[name]
                left += self._reads[name]
        return Plan(inputs, made, frozenset(read))


def make(plan: Plan, column: Callable[[str], Column], rows: int) -> dict[str, Column]:
    """The inputs that a plan makes, of the columns that it reads."""
    made = evaluate(plan.expressions, {name: column(name) for name in plan.read}, rows)
    return {name: made[name] for name in plan.inputs}
