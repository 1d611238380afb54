"""Which features a row has, when each is known, what is predicted, and how rows are split."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from slipway.components.config.base import Name, Section
from slipway.components.config.features.label import Label
from slipway.components.config.features.leaks import is_history, refuse_beside, refuse_leaks
from slipway.components.config.features.split import DRAWN, Split, SplitMethod
from slipway.components.config.features.streams import Stream, require_stream
from slipway.components.config.features.view import (
    Aggregate,
    Examples,
    Expressions,
    FeatureView,
    Kind,
    TableField,
)
from slipway.components.support.columns import RESERVED, ROW_ID, is_reserved
from slipway.components.support.expressions.grams import MAX_BUCKETS, MAX_SIZE
from slipway.components.support.expressions.parse import names, parse

__all__ = ["Aggregate", "Examples", "FeatureView", "FeaturesConfig", "Kind", "Label", "TableField"]

_RESERVED = f"has a name that Slipway uses itself ({', '.join(RESERVED)}, and what begins with __)"


class OfflineStore(Section):
    """The engine that joins the views to the examples: ours on one machine, Feast's on many."""

    type: Literal["polars", "spark"] = Field(
        default="polars",
        description="Polars (slipway.components.features.offline_store), or Feast's own spark.",
    )
    options: dict[str, Any] = Field(
        default={},
        description="The engine's settings as Feast's page on it lists them, as in {spark_conf: "
        '{spark.master: "k8s://https://host"}}.',
    )

    @model_validator(mode="after")
    def _has_its_options(self) -> Self:
        if self.type == "polars" and self.options:
            raise ValueError("the polars store has no options")
        return self


class Ngrams(Section):
    """A text feature as counts of its n-grams, hashed into buckets."""

    of: Literal["words", "characters"] = Field(
        default="words", description="What an n-gram is made of: `words`, or `characters`."
    )
    n: list[Annotated[int, Field(ge=1, le=MAX_SIZE)]] = Field(
        default=[1, 2],
        min_length=1,
        max_length=2,
        description="From how many to how many in a row: [1, 2] is single ones and pairs.",
    )
    buckets: int = Field(
        default=64,
        ge=2,
        le=MAX_BUCKETS,
        description="How many features the counts are hashed into.",
    )

    @model_validator(mode="after")
    def _goes_up(self) -> Self:
        if self.n[0] > self.n[-1]:
            raise ValueError(
                f"`n` goes from {self.n[0]} down to {self.n[-1]}: write the smaller first"
            )
        return self

    def expressions(self, feature: str) -> dict[str, str]:
        """A feature a bucket, to the expression that makes it."""
        counted = f"{feature}, '{self.of}', {self.n[0]}, {self.n[-1]}, {self.buckets}"
        return {
            f"{feature}_gram_{bucket}": f"grams({counted}, {bucket})"
            for bucket in range(self.buckets)
        }


class FeaturesConfig(Section):
    """The `features` section. `offline_store`: None means Polars."""

    entities: dict[Name, Name | Annotated[list[Name], Field(min_length=2)]] = Field(
        default={},
        description="Entity's name to the examples' column with its key, or to the columns that are its "
        "key together. Views without an `entity` need none.",
    )
    examples: Examples
    label: Label
    views: list[FeatureView] = Field(min_length=1, description="The feature views.")
    derived: Expressions = Field(
        default={},
        description="Features made of other features by an expression, for each request too: "
        '{dear: "ratio(price, usual_price, 1) > 2"}.',
    )
    not_inputs: list[Name] = Field(
        default=[],
        description="Features that `derived` reads and the model does not take itself.",
    )
    ngrams: dict[Name, Ngrams] = Field(
        default={},
        description="Text features that the model takes as counts of their n-grams, and not as they are.",
    )
    split: Split
    offline_store: OfflineStore | None = None
    streams: dict[Name, Stream] = Field(
        default={},
        description="Table to how its events are pushed to the online store (`slipway push`).",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check_split()
        views: set[str] = set()
        keys = set(self.named_columns)
        for key in sorted(keys):
            if is_reserved(key):
                raise ValueError(f"the key column {key} {_RESERVED}. Rename the column")
        taken = keys | {self.examples.row_key}
        self._check_beside()
        self._check_joined_beside()
        for view in self.views:
            if view.name.lower() in views:
                raise ValueError(f"two views are named {view.name}, in capitals or not")
            views.add(view.name.lower())
            if view.entity is not None and view.entity not in self.entities:
                raise ValueError(
                    f"view {view.name} is of entity '{view.entity}', which is not among the"
                    f" entities ({', '.join(self.entities) or 'there are none'})"
                )
            self._check_keys(view)
            self._check_times(view)
            refuse_beside(view, self.keys_of(view), self.examples, self.own_beside)
            for feature in view.feature_names:
                where = f"feature {feature} of view {view.name}"
                if is_reserved(feature):
                    raise ValueError(f"{where} {_RESERVED}: give it another name")
                if feature in self.own_beside:
                    raise ValueError(
                        f"{where} has the name of a column of `examples.beside`: give it another name"
                    )
                if feature in taken:
                    raise ValueError(
                        f"{where} has a name that is taken by a key or another feature: give it"
                        " another name"
                    )
                taken.add(feature)
            refuse_leaks(view, self.keys_of(view), self.examples, self.label)
        for table in self.streams:
            require_stream(table, self.streamed(table))
        self._check_derived(taken)
        return self

    def _check_derived(self, taken: set[str]) -> None:
        """Refuses names that are taken, or that mean nothing."""
        for name in self.expressions:
            if is_reserved(name):
                raise ValueError(f"the derived feature {name} {_RESERVED}: give it another name")
            if name in taken or name in self.examples.beside:
                raise ValueError(
                    f"the derived feature {name} has a name that is taken by a key, another feature or a"
                    " column of `examples.beside`: give it another name"
                )
        read = {name for text in self.expressions.values() for name in names(parse(text))}
        for name in sorted({*read, *self.ngrams} & set(self.joined_beside)):
            raise ValueError(
                f"a derived feature is made of {name}, which `examples.beside` keeps out of the model:"
                " leave one of the two out"
            )
        for name in self.not_inputs:
            if name not in read:
                raise ValueError(
                    f"`not_inputs` names {name}, which no derived feature reads: leave it out there, or"
                    " leave the feature itself out"
                )
        if not {*self.feature_names, *self.expressions} - self.hidden - set(self.joined_beside):
            setting = "`not_inputs`" if self.not_inputs else "`examples.beside`"
            raise ValueError(f"{setting} leaves the model without a feature")

    @property
    def expressions(self) -> dict[str, str]:
        """Each feature that is made of others, to its expression.

        In an order of their own, since a pipeline parameter does not keep one.
        """
        made = dict(sorted(self.derived.items()))
        for name, ngrams in sorted(self.ngrams.items()):
            made |= ngrams.expressions(name)
        return made

    @property
    def hidden(self) -> set[str]:
        """Features that others are made of, and the model does not take itself."""
        return {*self.not_inputs, *self.ngrams}

    @property
    def feature_names(self) -> list[str]:
        """The features of all views, in order."""
        return [name for view in self.views for name in view.feature_names]

    @property
    def own_beside(self) -> list[str]:
        """The columns of the examples' table that travel beside the features."""
        joined = set(self.joined_beside)
        return [name for name in self.examples.beside if name not in joined]

    @property
    def joined_beside(self) -> list[str]:
        """What views join of other tables to travel beside the features."""
        others = (view for view in self.views if view.table != self.examples.table)
        found = {name for view in others for name in view.feature_names}
        return [name for name in self.examples.beside if name in found]

    def is_beside(self, view: FeatureView) -> bool:
        """Whether what a view joins travels beside the features; nothing after the gate has it."""
        named = not set(view.feature_names).isdisjoint(self.examples.beside)
        return named and view.table != self.examples.table

    def for_serving(self) -> "FeaturesConfig":
        """The same without the views that only the gate needs: rows to predict do not have them."""
        views = [view for view in self.views if not self.is_beside(view)]
        examples = self.examples.model_copy(update={"beside": self.own_beside})
        return self.model_copy(update={"views": views, "examples": examples})

    def _check_joined_beside(self) -> None:
        """Refuses a view that has both what the model takes and what must stay beside it."""
        for view in filter(self.is_beside, self.views):
            beside = [name for name in view.feature_names if name in self.examples.beside]
            if inputs := [name for name in view.feature_names if name not in beside]:
                raise ValueError(
                    f"view {view.name} joins {', '.join(beside)}, which `examples.beside` keeps out of"
                    f" the model, and {', '.join(inputs)}, which the model takes: make it two views, so"
                    " that the online store has only what is served"
                )
            if named := [name for name in beside if name in self.examples.also_features]:
                raise ValueError(
                    f"`also_features` names {named[0]}, which view {view.name} joins to travel beside the"
                    " features: give it to the model by a field of another name, in a view of its own"
                )

    def _check_beside(self) -> None:
        """Refuses columns beside the features that a request brings, or that are the answer."""
        roles: dict[str | None, str] = {
            self.label.column: "the label",
            self.examples.time: "the examples' time",
            **dict.fromkeys(self.examples.key_columns, "a key"),
            **{column: "a key" for keys in self.entity_keys.values() for column in keys},
        }
        for name in self.examples.beside:
            if is_reserved(name):
                raise ValueError(f"the column {name} of `examples.beside` {_RESERVED}. Rename it")
            if name in roles:
                raise ValueError(
                    f"`examples.beside` names {name}, which is {roles[name]}: leave it out (slices and"
                    " groups can be made of a key as it is)"
                )

    def _check_split(self) -> None:
        if self.split.by is not None and self.split.by in (self.label.column, self.label.known):
            raise ValueError(
                f"`split.by` is {self.split.by}, which says what is predicted: a part would lack what the"
                " others have. Name the column of what rows have in common, such as a customer"
            )
        if self.split.method == "stratified" and self.label.kind == "number":
            raise ValueError(
                "`split: {method: stratified}` gives each part its share of each class, and a number has"
                " none: write `method: random`"
            )
        if self.examples.time is not None:
            return
        if not self.split.drawn:
            raise ValueError(
                "`examples` has no `time`, so that time cannot cut the parts: write"
                f" `split: {DRAWN}`, or set `examples.time`"
            )
        if self.label.known is not None:
            raise ValueError(
                f"`label.known` ({self.label.known}) says nothing without `examples.time`, since no"
                " row has a moment of prediction: set that, or leave `known` out"
            )

    def _check_keys(self, view: FeatureView) -> None:
        """Refuses a view that says nothing to look it up by."""
        keys, sources = self.keys_of(view), view.source_keys
        if view.entity is None and self.examples.key is None:
            if view.table != self.examples.table or sources:
                raise ValueError(
                    f"view {view.name} names no entity, and the examples have no key to look the table"
                    f" {view.table} up by: give the view an `entity`"
                )
        elif sources and len(sources) != len(keys):
            raise ValueError(
                f"view {view.name} is looked up by {', '.join(keys)}, and its `source_key` names"
                f" {', '.join(sources)}: name one column for each, in that order"
            )

    def _check_times(self, view: FeatureView) -> None:
        """Refuses a view that looks at a moment which no example has."""
        if self.examples.time is not None or view.time is None:
            return
        if view.aggregates:
            raise ValueError(
                f"view {view.name} aggregates the events before each example, and the examples have no"
                " time: set `examples.time`, or make it `fields` of a table with one row for each key"
            )
        raise ValueError(
            f"view {view.name} has `time`, and the examples have none, so that nothing says which of its"
            " rows was known: set `examples.time`, or leave the view's `time` out"
        )

    @property
    def split_method(self) -> SplitMethod:
        """How rows are parted."""
        return self.split.method or "time"

    @property
    def named_columns(self) -> list[str]:
        """The examples' columns that are keys, or name the groups of a split."""
        columns = [c for keys in self.entity_keys.values() for c in keys if c != ROW_ID]
        group = [self.split.by] if self.split.by else []
        return list(dict.fromkeys([*self.examples.key_columns, *columns, *group]))

    @property
    def entity_keys(self) -> dict[str, tuple[str, ...]]:
        """Every entity with its key's columns, also the one that views without `entity` are of."""
        found = {
            name: (columns,) if isinstance(columns, str) else tuple(columns)
            for name, columns in self.entities.items()
        }
        own = self._own_key
        if any(view.entity is None for view in self.views) and own not in found.values():
            found[self._own_entity] = own
        return found

    @property
    def _own_key(self) -> tuple[str, ...]:
        return self.examples.key_columns or (ROW_ID,)

    @property
    def _own_entity(self) -> str:
        name = "example"
        while name in self.entities:
            name += "_"
        return name

    def entity_of(self, view: FeatureView) -> str:
        """The name of a view's entity."""
        if view.entity is not None:
            return view.entity
        return next(name for name, key in self.entity_keys.items() if key == self._own_key)

    def keys_of(self, view: FeatureView) -> tuple[str, ...]:
        """The examples' columns that a view is looked up by; ROW_ID where a row is its own key."""
        return self._own_key if view.entity is None else self.entity_keys[view.entity]

    def is_online(self, view: FeatureView) -> bool:
        """Whether the online store keeps a view's values: nobody can ask for a row without a key."""
        return view.online and self.keys_of(view) != (ROW_ID,) and not self.is_beside(view)

    def streamed(self, table: str) -> list[FeatureView]:
        """The views that take the events which are pushed for a table."""
        return [view for view in self.views if view.table == table and self.is_online(view)]

    def stream_of(self, view: FeatureView) -> Stream | None:
        """How a view's events are pushed; None: they are not."""
        return self.streams.get(view.table) if self.is_online(view) else None

    def sources_of(self, view: FeatureView) -> tuple[str, ...]:
        """The columns of a view's own table that hold those keys."""
        return view.source_keys or self.keys_of(view)

    def is_history(self, view: FeatureView) -> bool:
        """Whether a view looks back on other rows of the examples' own table."""
        return is_history(view, self.keys_of(view), self.examples)
