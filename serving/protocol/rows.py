"""Rows: from tensors by feature name to the arrays that the model takes."""

import difflib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from slipway.components.contracts.bundle import MISSING_TIME, Bundle
from slipway.components.contracts.feature_store import is_text_key
from slipway.components.contracts.rows.joined_key import join_values
from slipway.components.contracts.rows.requests import Tensor
from slipway.components.contracts.splits import Feature
from slipway.components.support.expressions.evaluate import number_column, text_column
from slipway.components.support.expressions.functions import Column
from slipway.serving.errors import RequestError
from slipway.serving.protocol.bounds import MAX_TEXT, MAX_VALUES, Bounds
from slipway.serving.protocol.derived import Derivation, Plan, make
from slipway.serving.protocol.tensors import InputTensor, short_text
from slipway.serving.protocol.values import (
    BOOLEAN,
    CATEGORICAL,
    ENTITY,
    FLOATS,
    KEY,
    KEY_PART,
    NUMBERS,
    NUMERIC,
    TEXTS,
    TIME,
    TRUTHS,
    Values,
    is_key,
    key_datatype,
    parse_time,
    read_keys,
    read_numbers,
    read_texts,
    read_times,
    text_size,
)

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_MAX_LAYOUTS = 64
_NOTHING = Plan((), {}, frozenset())
EntityRow = dict[str, str | int | None]
"""The entity keys of a row by column, each as the store has it; None names no entity."""
_TEXT_OBJECT = 64  # bytes of a Python text beside its characters, and of the reference to it


@dataclass(slots=True)
class Rows:
    """The rows of one request, or of several that share a forward pass.

    Attributes:
        count: number of rows, N.
        numeric: float64 [N, n], numeric features, then booleans; missing is NaN. The model takes
            them as float32; the log keeps what came in. Of several rows a column lies in one piece.
        categorical: object (str) [N, m]; missing is the empty string.
        time: int64 [N, t], microseconds; missing is the smallest int64.
        keys: the examples' keys, where the request had them.
        text_bytes: of the texts and keys.
    """

    count: int
    numeric: np.ndarray
    categorical: np.ndarray
    time: np.ndarray
    keys: list[str | None] | None = None
    text_bytes: int = 0

    @property
    def nbytes(self) -> int:
        """About how many bytes of memory they take."""
        texts = self.categorical.size + (self.count if self.keys else 0)
        return self.numeric.nbytes + self.time.nbytes + _TEXT_OBJECT * texts + self.text_bytes


@dataclass(frozen=True, slots=True)
class _Layout:
    """An order of the tensors of one row, all of them in their usual datatypes.

    Attributes:
        datatypes, shapes: of each tensor. The others pick values of the request, one a tensor: `numeric`
            those of the columns of `Rows.numeric`, which are `floats` or `boolean`, and so on.
    """

    datatypes: tuple[str, ...]
    shapes: tuple[list[int], ...]
    numeric: "_Pick"
    floats: "_Pick"
    boolean: "_Pick"
    categorical: "_Pick"
    time: "_Pick"
    key: "_Pick"
    key_parts: "_Pick"


_Pick = Callable[[Sequence[Any]], Sequence[Any]]
_PARTS = itemgetter("name", "datatype", "shape", "data")


def _pick(places: list[int]) -> _Pick:
    """What takes the values at some places, without a loop of Python's."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: [values[i] for i in places]


class RowReader:
    """Reads tensors by feature name, in any order, for the model with one signature.

    Attributes:
        bounds: what one request may hold.
    """

    def __init__(self, bundle: Bundle, *, max_rows: int, missing_as_null: bool) -> None:
        # The model's columns first, and behind them the sources that inputs are made of.
        sources = replace(bundle, features=bundle.sources)
        self._widths = (len(bundle.numeric), len(bundle.categorical), len(bundle.time))
        self.numeric = bundle.numeric + sources.numeric
        self.categorical = bundle.categorical + sources.categorical
        self.time = bundle.time + sources.time
        self._derivation = Derivation(bundle) if bundle.derived else None
        self._sources = [feature.name for feature in bundle.sources]
        booleans = {f.name for f in (*bundle.features, *bundle.sources) if f.kind == "boolean"}
        self._key = bundle.key
        self._slots: dict[str, tuple[int, int]] = {
            name: (BOOLEAN if name in booleans else NUMERIC, i)
            for i, name in enumerate(self.numeric)
        }
        self._slots |= {name: (CATEGORICAL, i) for i, name in enumerate(self.categorical)}
        self._slots |= {name: (TIME, i) for i, name in enumerate(self.time)}
        self._order = [feature.name for feature in bundle.features]
        self._feature_list = (*bundle.features, *bundle.sources)
        self._entities = bundle.entities
        self._slots.setdefault(bundle.key, (KEY, 0))
        self._key_parts = bundle.key_columns
        for i, name in enumerate(bundle.key_columns):
            self._slots.setdefault(name, (KEY_PART, i))
        for name in bundle.entities:
            self._slots.setdefault(name, (ENTITY, 0))
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        inputs = len(self._slots)
        self._max_rows = max(1, min(max_rows, MAX_VALUES // inputs))
        self.bounds = Bounds(inputs, self._max_rows)
        self._missing_as_null = missing_as_null

    def read(self, tensors: object) -> Rows:
        """Reads the `inputs` of a V2 request.

        Args:
            tensors: a list of {"name", "shape", "datatype", "data"}; the data is a list of JSON
                values, or a numpy array where it came as a binary tensor.

        Raises:
            RequestError: 400, with a message that names the input.
        """
        if type(tensors) is not list or not tensors:
            raise RequestError("'inputs' must be a list of tensors, one for each feature.")
        rows = self._read_one(tensors)
        return self._read_any(tensors) if rows is None else rows

    def _read_any(self, tensors: list[InputTensor]) -> Rows:
        """The rows of any request: of several rows, in a new order, or with something unusual."""
        numeric: list[Values] = [[]] * len(self.numeric)
        categorical: list[list[str]] = [[]] * len(self.categorical)
        time: list[Values] = [[]] * len(self.time)
        keys: list[str | None] | None = None
        parts: dict[int, list[str | None]] = {}
        count = -1
        seen: set[str] = set()
        for tensor in tensors:
            # A model has many features: what nearly every tensor is like is read here, without a call.
            # `_slot` and `_data` look at all others, and say what is wrong with them.
            name: Any = tensor.get("name") if type(tensor) is dict else None
            slot = self._slots.get(name) if type(name) is str else None
            if slot is None or name in seen:
                name, slot = self._slot(tensor, seen)
            seen.add(name)
            kind, index = slot
            data, shape = tensor.get("data"), tensor.get("shape")
            if not (
                (type(data) is list or type(data) is np.ndarray)
                and type(shape) is list
                and len(shape) == 1
                and type(shape[0]) is int
                and 0 < shape[0] == len(data)
                and shape[0] <= self._max_rows
                and type(data[0]) is not list
                and type(tensor.get("datatype")) is str
            ):
                data = self._data(tensor, name)
            if -1 != count != len(data):
                raise RequestError(
                    f"Input '{name}' has {len(data)} rows, the inputs before it {count}."
                )
            count = len(data)
            if (
                kind == NUMERIC
                and type(data) is list
                and tensor["datatype"] in FLOATS
                and NUMBERS.issuperset(map(type, data))
            ):
                numeric[index] = data
            elif kind <= BOOLEAN:
                numeric[index] = read_numbers(name, tensor["datatype"], data, kind)
            elif kind == CATEGORICAL:
                categorical[index] = read_texts(name, tensor["datatype"], data, kind)
            elif kind == TIME:
                time[index] = read_times(name, tensor["datatype"], data)
            elif kind == KEY:
                keys = read_keys(name, tensor["datatype"], data)
            elif kind == KEY_PART:
                parts[index] = read_keys(name, tensor["datatype"], data)
        if keys is None:
            keys = self._joined_keys(parts)
        if any(feature.name not in seen for feature in self._feature_list):
            self._fill(count, seen, numeric, categorical, time)
        rows = self._assemble(count, numeric, categorical, time, keys)
        if count == 1 and seen.issuperset(self._order) and seen.isdisjoint(self._sources):
            self._learn(tensors)
        return rows if self._derivation is None else self._made(rows, seen)

    def _joined_keys(self, parts: dict[int, list[str | None]]) -> list[str | None] | None:
        """The keys of examples that several columns name, where the request has all of them."""
        if not parts or len(parts) != len(self._key_parts):
            return None
        rows = zip(*(parts[i] for i in range(len(parts))), strict=True)
        return [join_values(row) for row in rows]

    def _made(self, rows: Rows, seen: set[str]) -> Rows:
        """The rows with the inputs that the request leaves out, and without their sources."""
        plan = self._plan(seen)
        for name, column in make(plan, partial(self._column, rows), rows.count).items():
            kind, index = self._slots[name]
            if kind <= BOOLEAN:
                rows.numeric[:, index] = column.values
            elif kind == CATEGORICAL:
                rows.categorical[:, index] = [text or "" for text in column.values]
            else:
                rows.time[:, index] = column.values
        numeric, categorical, time = self._widths
        rows.numeric = np.ascontiguousarray(rows.numeric[:, :numeric])
        rows.categorical = np.ascontiguousarray(rows.categorical[:, :categorical])
        rows.time = np.ascontiguousarray(rows.time[:, :time])
        return rows

    def _plan(self, there: Collection[str]) -> Plan:
        return self._derivation.plan(there) if self._derivation else _NOTHING

    def _column(self, rows: Rows, name: str) -> Column:
        """One feature's values, as expressions take them."""
        kind, index = self._slots[name]
        if kind <= BOOLEAN:
            boolean = kind == BOOLEAN
            return number_column(rows.numeric[:, index], "boolean" if boolean else "number")
        if kind == CATEGORICAL:
            return text_column(rows.categorical[:, index])
        return Column("time", rows.time[:, index])

    def _needed(self, there: Collection[str]) -> list[str]:
        """What a request must bring: the inputs that nothing makes, and what the others are made of."""
        plan = self._plan(there)
        inputs = [name for name in self._order if name not in plan.inputs]
        return inputs + [name for name in self._sources if name in plan.read]

    def _learn(self, tensors: list[InputTensor]) -> None:
        """Notes the order of a request of one row that was read, for `_read_one`."""
        if len(self._layouts) >= _MAX_LAYOUTS:
            return
        names = tuple(tensor["name"] for tensor in tensors)
        datatypes = tuple(tensor["datatype"] for tensor in tensors)
        places: list[list[tuple[int, int]]] = [[] for _ in range(ENTITY + 1)]
        for i, name in enumerate(names):
            kind, slot = self._slots[name]
            if not (
                datatypes[i] in FLOATS
                if kind == NUMERIC
                else datatypes[i] == ("BOOL" if kind == BOOLEAN else "BYTES")
            ):
                return
            places[kind].append((slot, i))
        numeric, *others = [
            _pick([i for _, i in sorted(place)])
            for place in (places[NUMERIC] + places[BOOLEAN], *places[:ENTITY])
        ]
        self._layouts[names] = _Layout(datatypes, ([1],) * len(names), numeric, *others)

    def _read_one(self, tensors: list[InputTensor]) -> Rows | None:
        """One row in an order that came before, ten times as fast; None where anything is unusual.

        Each look at the tensors is a pass over all of them without a branch.
        """
        try:
            names, datatypes, shapes, data = zip(*map(_PARTS, tensors), strict=True)
            layout = self._layouts[names]
            plain = (
                datatypes == layout.datatypes
                and shapes == layout.shapes
                and set(map(type, chain.from_iterable(shapes))) == {int}
                and set(map(type, data)) == {list}
                and set(map(len, data)) == {1}
            )
        except (KeyError, TypeError):
            return None
        if not plain:
            return None
        values = list(chain.from_iterable(data))
        texts, times = layout.categorical(values), layout.time(values)
        keys, parts = layout.key(values), layout.key_parts(values)
        if not (
            NUMBERS.issuperset(map(type, layout.floats(values)))
            and TRUTHS.issuperset(map(type, layout.boolean(values)))
            and TEXTS.issuperset(map(type, [*texts, *times, *keys, *parts]))
        ):
            return None
        if not keys and parts and len(parts) == len(self._key_parts):
            keys = [join_values(parts)]
        moments = [parse_time(name, text) for name, text in zip(self.time, times, strict=False)]
        known = [text or "" for text in texts]
        together = "".join([*known, *[key or "" for key in keys]])
        if len(together) > MAX_TEXT:
            return None
        categorical = np.empty((1, len(known)), object)
        categorical[0] = known
        return Rows(
            1,
            self._bounded(np.array([layout.numeric(values)], np.float64)),
            categorical,
            np.array([moments], np.int64),
            list(keys) or None,
            text_size(together),
        )

    def absent(self, tensors: object) -> list[Feature]:
        """The features that a request leaves out, if it has all entity keys to look them up by."""
        if type(tensors) is not list or not self._entities:
            return []
        names = {tensor.get("name") for tensor in tensors if _is_named(tensor)}
        if not names.issuperset(self._entities):
            return []
        absent = set(self._needed(names)).difference(names)
        return [feature for feature in self._feature_list if feature.name in absent]

    def entity_rows(self, tensors: list[InputTensor]) -> list[EntityRow]:
        """One object {entity key column: value} a row, each value as the store has it, or None.

        A whole number may come in any integer type, or as its digits; as training takes it, a null names
        no entity.

        Raises:
            RequestError: 400, a key is missing, of another type, or there are not as many.
        """
        columns: dict[str, Sequence[str | int | None]] = {}
        for tensor in tensors:
            if not _is_named(tensor) or tensor["name"] not in self._entities:
                continue
            name = tensor["name"]
            texts = read_keys(name, tensor.get("datatype"), self._data(tensor, name))
            kind = self._entities[name]
            if "int" in kind:
                wrong = [text for text in texts if text is not None and not is_key(text, kind)]
                if wrong:
                    raise RequestError(
                        f"Input '{name}' is an entity key of type {kind}: '{short_text(wrong[0])}' is no"
                        " such number."
                    )
            elif tensor["datatype"] != "BYTES":
                raise RequestError(f"Input '{name}' is an entity key of texts: give BYTES.")
            columns[name] = (
                texts
                if is_text_key(kind)
                else [None if text is None else int(text) for text in texts]
            )
        if len({len(values) for values in columns.values()}) > 1:
            raise RequestError("The entity keys have different numbers of rows.")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def instance_tensors(self, instances: object, *, keyed: bool = False) -> list[Tensor]:
        """The `instances` of a V1 request, one object {feature: value} a row, as tensors for `read`.

        Args:
            instances: as they came.
            keyed: a feature that no row has may be left out, where all rows have all entity keys.

        Raises:
            RequestError: 400, with a message that names the row and the feature.
        """
        if type(instances) is not list or not instances:
            raise RequestError("'instances' must be a list of objects, one for each row.")
        if len(instances) > self._max_rows:
            raise RequestError(self._too_many(len(instances)), 413)
        named: set[str] = set().union(*(i for i in instances if type(i) is dict))
        keyed = keyed and bool(self._entities) and named.issuperset(self._entities)
        needed = self._needed(named)
        needed += [name for name in self._sources if name in named and name not in needed]
        wanted = [name for name in needed if not keyed or name in named]
        if keyed:
            wanted += [name for name in self._entities if name not in wanted]
        columns: dict[str, list[object]] = {name: [] for name in wanted}
        lone = [
            name
            for name in (self._key, *self._key_parts)
            if name not in columns and self._slots[name][0] in (KEY, KEY_PART)
        ]
        keys: dict[str, list[object]] = {name: [] for name in lone}
        for number, instance in enumerate(instances):
            if type(instance) is not dict:
                raise RequestError(f"Instance {number} is not an object of features by name.")
            for name in instance:
                if name not in self._slots:
                    raise RequestError(f"Instance {number}: {self._unknown(name)}")
            absent = [name for name in wanted if name not in instance]
            if absent and not self._missing_as_null:
                raise RequestError(f"Instance {number} lacks {_listed(absent)}.")
            for name, column in columns.items():
                column.append(instance.get(name))
            for name, values in keys.items():
                values.append(instance.get(name))
        tensors = [self._as_tensor(name, column) for name, column in columns.items()]
        for name, values in keys.items():
            if any(value is not None for value in values):
                tensors.append(self._as_tensor(name, values))
        return tensors

    def _as_tensor(self, name: str, values: list[object]) -> Tensor:
        """A column of instances as a tensor, in the datatype that its values have."""
        kind = self._slots[name][0]
        datatype = {NUMERIC: "FP64", BOOLEAN: "BOOL"}.get(kind, "BYTES")
        present = {type(value) for value in values if value is not None}
        if kind == TIME and present == {int}:
            datatype = "INT64"
        elif kind == BOOLEAN and present and present <= {int, float}:
            datatype = "FP64"
        elif kind in (KEY, KEY_PART, ENTITY):
            datatype = key_datatype(values)
        return {"name": name, "shape": [len(values)], "datatype": datatype, "data": values}

    def _slot(self, tensor: object, seen: set[str]) -> tuple[str, tuple[int, int]]:
        if type(tensor) is not dict:
            raise RequestError("Each of 'inputs' must be an object with name, shape, datatype.")
        name = tensor.get("name")
        if type(name) is not str:
            raise RequestError("An input has no 'name'.")
        slot = self._slots.get(name)
        if slot is None:
            raise RequestError(self._unknown(name))
        if name in seen:
            raise RequestError(f"Input '{name}' is there twice.")
        return name, slot

    def _data(self, tensor: InputTensor, name: str) -> Values:
        shape = tensor.get("shape")
        if type(shape) is not list or not 1 <= len(shape) <= 2:
            raise RequestError(f"Input '{name}' has shape {short_text(shape)}: give [N] or [N, 1].")
        if type(shape[0]) is not int or (len(shape) == 2 and shape[1:] != [1]) or shape[0] < 1:
            raise RequestError(f"Input '{name}' has shape {short_text(shape)}: give [N] or [N, 1].")
        if shape[0] > self._max_rows:
            raise RequestError(self._too_many(shape[0]), 413)
        if type(tensor.get("datatype")) is not str:
            raise RequestError(f"Input '{name}' has no 'datatype'.")
        data = tensor.get("data")
        if isinstance(data, np.ndarray):
            return data
        if type(data) is not list:
            raise RequestError(f"Input '{name}' has no 'data' (a list of {shape[0]} values).")
        if data and type(data[0]) is list:
            if any(type(row) is not list or len(row) != 1 for row in data):
                raise RequestError(f"Input '{name}': the rows of 'data' must have one value each.")
            data = [row[0] for row in data]
        if len(data) != shape[0]:
            raise RequestError(
                f"Input '{name}' has shape {short_text(shape)} but {len(data)} values in 'data'."
            )
        return data

    def _fill(
        self,
        count: int,
        seen: set[str],
        numeric: list[Values],
        categorical: list[list[str]],
        time: list[Values],
    ) -> None:
        absent = [name for name in self._needed(seen) if name not in seen]
        if absent and not self._missing_as_null:
            raise RequestError(
                f"The request lacks {_listed(absent)}. Send a null in 'data' for a value that is"
                " not known."
            )
        if seen.isdisjoint(feature.name for feature in self._feature_list):
            raise RequestError("The request has no feature at all.")
        for feature in self._feature_list:
            name = feature.name
            if name in seen:
                continue
            kind, index = self._slots[name]
            if kind <= BOOLEAN:
                numeric[index] = [None] * count
            elif kind == CATEGORICAL:
                categorical[index] = [""] * count
            else:
                time[index] = [MISSING_TIME] * count

    def _assemble(
        self,
        count: int,
        numeric: list[Values],
        categorical: list[list[str]],
        time: list[Values],
        keys: list[str | None] | None,
    ) -> Rows:
        # A feature's values lie together: they come so, and the log writes them so.
        numbers = np.empty((len(numeric), count))
        if count == 1:
            numbers[:, 0] = [column[0] for column in numeric]
        else:
            for i, column in enumerate(numeric):
                numbers[i] = column
        numbers = self._bounded(numbers.T)
        texts = np.empty((count, len(categorical)), object)
        for i, column in enumerate(categorical):
            texts[:, i] = column
        times = np.empty((count, len(time)), np.int64)
        for i, column in enumerate(time):
            times[:, i] = column
        size = sum(text_size("".join(column)) for column in categorical)
        if keys is not None:
            size += text_size("".join(key or "" for key in keys))
        return Rows(count, numbers, texts, times, keys, size)

    def _bounded(self, numbers: np.ndarray) -> np.ndarray:
        """The numbers, none of them infinite as float32."""
        beyond = np.abs(numbers) > _FLOAT32_MAX  # a missing number is not
        if beyond.any():
            worst = np.flatnonzero(beyond.any(axis=0))[0]
            raise RequestError(
                f"Input '{self.numeric[worst]}' has a value that is infinite or beyond 3.4e38."
            )
        return numbers

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name[:100], self._slots, n=1, cutoff=0.6)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"The model has no input '{short_text(name)}'.{hint}"

    def _too_many(self, rows: int) -> str:
        return f"{rows} rows in one request; at most {self._max_rows} are taken."


def _is_named(tensor: object) -> bool:
    return type(tensor) is dict and type(tensor.get("name")) is str


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:10])
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"the input{'s' if len(names) > 1 else ''} {shown}{more}"
