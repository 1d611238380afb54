"""What a project file may not ask of features: to see the future, or the row that is predicted.

An example is predicted at its time less `examples.lead`. A view of the examples' own table either shows
an example its own fields (its entity is the examples' key), or looks back on earlier rows that share an
entity with it: a history. The features stage counts a row of a history only after its own prediction, so
that no example sees itself or one of the same instant. What that leaves without sense is refused here,
when the project file is read, with the line to write.
"""

from slipway.components.config.base import format_duration
from slipway.components.config.features.label import Label
from slipway.components.config.features.view import Examples, FeatureView
from slipway.components.support.columns import ROW_ID

Keys = tuple[str, ...]


def _names_one_row(view: FeatureView, keys: Keys, examples: Examples) -> bool:
    """Whether a view of the examples' own table is looked up by what names an example."""
    own = examples.key_columns or (ROW_ID,)
    return set(own) == set(keys) and view.source_keys in ((), keys)


def _own_key(examples: Examples) -> str:
    return ", ".join(examples.key_columns) or "the row's own"


def shows_own_fields(view: FeatureView, keys: Keys, examples: Examples) -> bool:
    """Whether a view, looked up by the columns `keys`, shows each example the fields of its own row."""
    own = view.table == examples.table and _names_one_row(view, keys, examples)
    return own and bool(view.fields)


def is_history(view: FeatureView, keys: Keys, examples: Examples) -> bool:
    """Whether a view looks back on other rows of the examples' own table."""
    return view.table == examples.table and not shows_own_fields(view, keys, examples)


def refuse_leaks(view: FeatureView, keys: Keys, examples: Examples, label: Label) -> None:
    """Refuses a view that would show an example its label, itself or the future; or nothing at all.

    Args:
        view: the view.
        keys: the examples' columns that it is looked up by.
        examples: the examples.
        label: the label.

    Raises:
        ValueError: with what to write instead.
    """
    if label.column in keys:
        raise ValueError(
            f"view {view.name} is looked up by the label's column {label.column}, which nobody knows at"
            " the prediction: give it another entity"
        )
    if view.table != examples.table:
        return
    if label.column in {*view.source_columns, *view.source_keys}:
        _refuse_early_label(view, examples, label)
    if shows_own_fields(view, keys, examples):
        _refuse_hidden_fields(view, examples, label)
    else:
        _refuse_own_row(view, keys, examples)


def refuse_beside(view: FeatureView, keys: Keys, examples: Examples, beside: list[str]) -> None:
    """Refuses a view that makes a feature of a column that is to stay beside the features.

    Args:
        view: the view.
        keys: the examples' columns that it is looked up by.
        examples: the examples.
        beside: the columns of the examples' own table that are to stay beside.

    Raises:
        ValueError: naming the column, and how to say that it is meant.
    """
    if view.table != examples.table:
        return
    read = {*view.source_columns, *view.source_keys, *keys}
    for name in beside:
        if name in read and name not in examples.also_features:
            raise ValueError(
                f"view {view.name} makes a feature of {name}, which `examples.beside` keeps out of the"
                f" model: leave the feature out, or, if it is meant, write `also_features: [{name}]` into"
                " features.examples"
            )


def _refuse_early_label(view: FeatureView, examples: Examples, label: Label) -> None:
    reads = f"view {view.name} reads the label's column {label.column}"
    said = view.known or view.time
    if examples.time is None:
        raise ValueError(f"{reads}, which nobody knows at the prediction: leave that field out")
    if label.known is None and said is not None and said != examples.time:
        # The lag is honest; what is missing is that the label has it too.
        raise ValueError(
            f"{reads}, known at {said}, but the label counts as known at the example's time"
            f" {examples.time}: set `label.known: {said}`"
        )
    known = label.known or examples.time
    if view.time is None or said != known or view.available:
        raise ValueError(
            f"{reads} before the label is known, and so would see the future: set"
            f" `known: {known}`"
            + ("" if view.time else f" and `time: {examples.time}`")
            + (", without `available`" if view.available else "")
        )
    if label.known is None and not examples.lead:
        raise ValueError(
            f"{reads}, and nothing says when a label is known: it counts as known at the very moment"
            " of the prediction. Set `label.known` to the column with that time, or `examples.lead`"
        )


def _refuse_hidden_fields(view: FeatureView, examples: Examples, label: Label) -> None:
    if view.time is None:
        return
    own = f"view {view.name} shows an example fields of its own row"
    said = view.known or view.time
    if said == examples.time:
        if view.available < examples.lead:
            lead = format_duration(examples.lead)
            raise ValueError(
                f"{own}, which count as known only at {said}"
                + (f" less {format_duration(view.available)}" if view.available else "")
                + f", after the prediction (lead: {lead}): every value would be null. Set"
                f" `available: {lead}` if they are known that early; else leave the view out"
            )
        age = view.available - examples.lead
        if view.ttl is not None and age > view.ttl:
            raise ValueError(
                f"{own}, which are {format_duration(age)} old at the prediction, older than its ttl of"
                f" {format_duration(view.ttl)}: every value would be null. Set"
                f" `ttl: {format_duration(age)}` or leave it out"
            )
    elif said == label.known and not view.available:
        raise ValueError(
            f"{own} that are known only with the label ({said}), after the prediction: every value"
            " would be null. Set `known` to the column with the time when they are, or leave the view"
            " out"
        )


def _refuse_own_row(view: FeatureView, keys: Keys, examples: Examples) -> None:
    key = ", ".join(keys)
    own = (
        f"view {view.name} looks back on rows of the examples' own table {examples.table} by {key}"
    )
    if examples.time is None:
        raise ValueError(
            f"{own}, and the examples have no `time` that would say which came before: set"
            f" `examples.time`; or, to show each example its own fields, leave `entity` out"
        )
    if view.time is None:
        raise ValueError(
            f"{own} and has no `time`: an example would see itself and what comes after it. Set"
            f" `time: {examples.time}`"
        )
    if _names_one_row(view, keys, examples):
        raise ValueError(
            f"{own}, which names one row: an aggregate would hold the predicted row"
            " and no other. Give it the entity whose earlier rows it is to sum up"
        )
    if (view.known or view.time) == examples.time and view.available > examples.lead:
        lead = format_duration(examples.lead)
        remedy = f"Set `available: {lead}`" if examples.lead else "Leave it out"
        raise ValueError(
            f"{own}, and `available: {format_duration(view.available)}` makes each row known before its"
            f" own prediction (lead: {lead}): an example would see itself. {remedy} (or, to show it"
            f" its own fields, take the entity whose key is {_own_key(examples)})"
        )
