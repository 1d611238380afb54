"""Which features a row has, when each is known, what is predicted, and how time is split."""

from datetime import datetime, timedelta
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from slipway.components.config.base import Duration, Name, Section, format_duration, format_instant
from slipway.components.config.label import Label
from slipway.components.config.leaks import is_history, refuse_leaks
from slipway.components.config.view import Aggregate, Examples, FeatureView, Kind, TableField
from slipway.components.support.columns import RESERVED, is_reserved

__all__ = ["Aggregate", "Examples", "FeatureView", "FeaturesConfig", "Kind", "Label", "TableField"]

_RESERVED = f"has a name that Slipway uses itself ({', '.join(RESERVED)}, and what begins with __)"


class Split(Section):
    """How the window is cut by time: train, then validation, then test at its end."""

    validation: Duration = Field(description="Length of the validation part.")
    test: Duration = Field(description="Length of the test part, at the end of the window.")
    gap: Duration = Field(
        default=timedelta(0),
        description="Rows this close before the next part are left out, so that no label of one "
        "part is known only inside the next.",
    )

    def cut(self, start: datetime, end: datetime) -> dict[str, tuple[datetime, datetime]]:
        """The half-open stretch of time of each part: train first, test last, with the gap before each.

        Raises:
            ValueError: the window is too short for the parts.
        """
        test = end - self.test
        validation = test - self.validation
        if validation - self.gap <= start or test - self.gap <= validation:
            validate, last, gap = map(format_duration, (self.validation, self.test, self.gap))
            raise ValueError(
                f"{validate} of validation, {last} of test and gaps of {gap} leave nothing to train on"
                f" of the window {format_instant(start)} to {format_instant(end)}. Shorten the parts,"
                " or lengthen data.window"
            )
        return {
            "train": (start, validation - self.gap),
            "validation": (validation, test - self.gap),
            "test": (test, end),
        }


class OfflineStore(Section):
    """The engine that joins the views to the examples: ours on one machine, Feast's on many."""

    type: Literal["polars", "spark", "ray"] = Field(
        default="polars",
        description="Polars (slipway.components.features.offline_store), or Feast's own spark or "
        "ray.",
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


class FeaturesConfig(Section):
    """The `features` section. `offline_store`: None means Polars."""

    entities: dict[Name, Name] = Field(
        min_length=1, description="Entity's name to the examples' column with its key."
    )
    examples: Examples
    label: Label
    views: list[FeatureView] = Field(min_length=1, description="The feature views.")
    split: Split
    offline_store: OfflineStore | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        views: set[str] = set()
        keys = {self.examples.key, *self.entities.values()}
        for key in sorted(keys):
            if is_reserved(key):
                raise ValueError(f"the key column {key} {_RESERVED}. Rename the column")
        taken = set(keys)
        for view in self.views:
            if view.name.lower() in views:
                raise ValueError(f"two views are named {view.name}, in capitals or not")
            views.add(view.name.lower())
            if view.entity not in self.entities:
                raise ValueError(
                    f"view {view.name} is of entity '{view.entity}', which is not among the"
                    f" entities ({', '.join(self.entities)})"
                )
            for feature in view.feature_names:
                where = f"feature {feature} of view {view.name}"
                if is_reserved(feature):
                    raise ValueError(f"{where} {_RESERVED}: give it another name")
                if feature in taken:
                    raise ValueError(
                        f"{where} has a name that is taken by a key or another feature: give it"
                        " another name"
                    )
                taken.add(feature)
            refuse_leaks(view, self.examples, self.label, self.entities)
        return self

    def is_history(self, view: FeatureView) -> bool:
        """Whether a view looks back on other rows of the examples' own table."""
        return is_history(view, self.examples, self.entities)
