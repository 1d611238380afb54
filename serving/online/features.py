"""Online features: what a request with entity keys leaves out is read from Feast, in one batch.

Feast is imported only where the setting `online` asks for it: it takes seconds and memory. A store that
hangs costs each request a bounded time. One that lost a view, or stands for a moment too long ago, is
told from one that does not know an entity by the note that the features stage leaves in the store
itself.
"""

import asyncio
import contextlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.feature_store import repo_config
from slipway.components.contracts.rows.requests import DATATYPES
from slipway.components.contracts.rows.since import hours_since
from slipway.components.contracts.splits import Feature
from slipway.components.contracts.streams import StreamTag
from slipway.components.support.errors import SlipwayError
from slipway.components.support.libraries.feast_import import load_feast
from slipway.serving.errors import RequestError
from slipway.serving.online.lookup import RedisSource, SqliteSource, StoredView, look_up
from slipway.serving.protocol.rows import EntityRow, RowReader
from slipway.serving.protocol.tensors import InputTensor

# What a look-up may take, and more for each row; what Redis may take for one answer.
LOOKUP_SECONDS, ROW_SECONDS, ANSWER_SECONDS = 2.0, 0.001, 1.5
# How often the notes are read, and how often where an entity is not found.
NOTE_SECONDS, DOUBT_SECONDS = 10.0, 1.0
# Look-ups that wait at one time.
_MOST_WAITING = 64
# A time comes from the store as microseconds, not as text.
_DATATYPES = DATATYPES | {"time": "INT64"}
_logger = logging.getLogger("slipway.serving.online.features")


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlinePolicy:
    """What is answered where the store is unfit.

    Attributes:
        refuse: 503, in place of what the store has: nulls where it lost a view, old values.
        max_age_seconds: from the moment that a view stands for; 0: any.
        now: seconds since 1970.
    """

    refuse: bool = True
    max_age_seconds: float = 0.0
    now: Callable[[], float] = time.time


class OnlineMetrics:
    """What is counted of look-ups."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter(
            "slipway_online_rows",
            "rows that were looked up, by view and whether the store knows the entity",
            ["view", "found"],
            registry=registry,
        )
        self.refused = Counter(
            "slipway_online_refused",
            "look-ups that were answered 503, by reason",
            ["reason"],
            registry=registry,
        )
        self.lost = Gauge(
            "slipway_online_view_lost",
            "1: the store has lost the view that was written to it",
            ["view"],
            registry=registry,
        )
        self.age = Gauge(
            "slipway_online_view_age_seconds",
            "time since the moment that the view in the store stands for",
            ["view"],
            registry=registry,
        )


@dataclass(slots=True)
class _View:
    """One view of the feature service.

    Attributes:
        stored: its keys and features, as the store has them.
        written: the registry says that the features stage wrote it to the store.
        end: the moment that it stands for, in seconds since 1970; of a view that events are pushed to
            when they last were, if that is later. None: there is no note.
        looked: when the note was read, on `time.monotonic`.
    """

    stored: StoredView
    written: bool
    end: float | None = None
    looked: float = -1e9

    @property
    def name(self) -> str:
        return self.stored.name

    @property
    def lost(self) -> bool:
        return self.written and self.end is None


class OnlineFeatures:
    """Reads the feature service that a bundle names.

    Raises:
        SlipwayError: Feast is not here, or has no such service.
    """

    def __init__(
        self, project: str, bundle: Bundle, metrics: OnlineMetrics, policy: OnlinePolicy
    ) -> None:
        try:
            load_feast()
            from feast import FeatureStore, RepoConfig
            from feast.errors import FeatureServiceNotFoundException
        except ImportError as error:
            raise SlipwayError(
                "Online features are asked for, but this image has no Feast: use the image with it,"
                " or start the predictor without --online."
            ) from error
        config = repo_config(project, answer_seconds=ANSWER_SECONDS)
        self._store = FeatureStore(config=RepoConfig(**config))
        try:
            self._service = self._store.get_feature_service(bundle.feature_service)
        except FeatureServiceNotFoundException as error:
            raise SlipwayError(
                f"The feature store has no service '{bundle.feature_service}'. Run the features stage."
            ) from error
        self._metrics, self._policy = metrics, policy
        self._views = self._read_views()
        self._keys = {
            name: list(view.stored.keys) for view in self._views for name in view.stored.features
        }
        self._not_kept = self._all_features() - set(self._keys)
        self._waiting = 0
        self._source: SqliteSource | RedisSource | None = None
        # Feast's sqlite connection belongs to one thread.
        self._worker = _Worker("online-features")
        self.look()

    async def complete(
        self, reader: RowReader, tensors: list[InputTensor], moment: int | None = None
    ) -> list[InputTensor]:
        """The request's tensors with those of the absent features, as the online store has them.

        A value that came with the request stands; one that the store does not have is the feature's
        default for a known entity (a count of 0), and else missing.

        Args:
            reader: of the model that is asked.
            tensors: the request's.
            moment: of the prediction, in microseconds since 1970, UTC; None: this one.

        Raises:
            RequestError: 400, an entity key is not of its type; 503, the store does not answer in
                time, is unfit, or is another model's.
        """
        absent = reader.absent(tensors)
        if not_kept := [f.name for f in absent if f.name in self._not_kept]:
            raise RequestError(
                f"The online store does not keep {', '.join(not_kept)} (the view says `online: false`):"
                " send a value."
            )
        rows = reader.entity_rows(tensors)
        moment = int(self._policy.now() * 1_000_000) if moment is None else moment
        values = await self._ask(rows, {feature.name for feature in absent})
        lacking = [feature.name for feature in absent if feature.name not in values]
        if lacking:
            raise RequestError(
                f"The feature store has no feature {', '.join(lacking)}: it was filled for another model."
                " Send a value, or run the features stage with this model's project file.", 503
            )  # fmt: skip
        made = []
        for feature in absent:
            known = _known(self._keys.get(feature.name, []), rows)
            data = [
                _plain(feature, value, moment) if there else None
                for value, there in zip(values[feature.name], known, strict=True)
            ]
            datatype = _DATATYPES[feature.kind]
            made.append(
                {"name": feature.name, "datatype": datatype, "shape": [len(rows)], "data": data}
            )
        return [*tensors, *made]

    async def _ask(self, rows: list[EntityRow], wanted: set[str]) -> dict[str, list[object]]:
        """The store's values, in time or not at all."""
        if self._waiting >= _MOST_WAITING:
            raise self._refusal("busy", "More look-ups wait for the online store than are taken.")
        seconds = LOOKUP_SECONDS + ROW_SECONDS * len(rows)
        self._waiting += 1
        try:
            values: dict[str, list[object]] = await asyncio.wait_for(
                self._worker.run(self._read, rows), seconds
            )
        except TimeoutError as error:
            text = f"The online store did not answer within {seconds:g} s."
            raise self._refusal("timeout", text) from error
        except Exception as error:  # each store behind Feast has errors of its own
            _logger.error("The online store does not answer: %s", error)
            raise self._refusal("error", "The online store does not answer.") from error
        finally:
            self._waiting -= 1
        for view in self._views:
            if wanted.intersection(view.stored.features):
                self._judge(view, rows, values)
        return values

    def _judge(self, view: _View, rows: list[EntityRow], values: dict[str, list[object]]) -> None:
        """Counts what a view knew of the rows, and refuses them where it is unfit."""
        columns = [values[name] for name in view.stored.features if name in values]
        found = unknown = 0
        for place, named in enumerate(_known(list(view.stored.keys), rows)):
            if named and all(column[place] is None for column in columns):
                unknown += 1
            else:
                found += named
        self._metrics.rows.labels(view.name, "yes").inc(found)
        self._metrics.rows.labels(view.name, "no").inc(unknown)
        if not self._policy.refuse:
            return
        if unknown and view.lost:
            raise self._refusal(
                "lost",
                f"The online store has lost the view '{view.name}'. Run the features stage or a backfill;"
                " deployment.online_unfit: answer takes what it lost as missing.",
            )
        oldest = self._policy.max_age_seconds
        if oldest and view.end is not None and self._policy.now() - view.end > oldest:
            raise self._refusal(
                "old",
                f"The view '{view.name}' in the online store is older than the {oldest:g} s of"
                " deployment.online_max_age. Run a backfill.",
            )

    def _refusal(self, reason: str, text: str) -> RequestError:
        self._metrics.refused.labels(reason).inc()
        return RequestError(text, 503)

    def _all_features(self) -> set[str]:
        return {f.name for view in self._service.feature_view_projections for f in view.features}

    def _read_views(self) -> list[_View]:
        """The views that are kept online."""
        views = []
        for projection in self._service.feature_view_projections:
            view = self._store.get_feature_view(projection.name)
            if view.online:
                stored = StoredView(
                    name=view.name,
                    keys={c.name: str(c.dtype) == "String" for c in view.entity_columns},
                    features=[feature.name for feature in projection.features],
                    stream=StreamTag.read(view.tags),
                )
                views.append(_View(stored, bool(view.materialization_intervals)))
        return views

    def look(self) -> None:
        """Reads the notes soon, in the store's thread; called now and then, it keeps metrics true."""
        self._worker.submit(self._look_again, NOTE_SECONDS / 2)

    def close(self) -> None:
        """Ends the thread; a look-up that hangs is left to itself."""
        self._worker.close()

    # In the store's thread.

    def _read(self, rows: list[EntityRow]) -> dict[str, list[object]]:
        views = [view.stored for view in self._views]
        found = look_up(self._prepared(), views, rows, self._policy.now())
        doubt = any(
            all(found[name][place] is None for name in view.stored.features)
            for view in self._views
            for place in range(len(rows))
        )
        self._look_again(DOUBT_SECONDS if doubt else NOTE_SECONDS)
        return found

    def _prepared(self) -> SqliteSource | RedisSource:
        """The store; made in the thread that reads it."""
        if self._source is None:
            online: Any = self._store._get_provider().online_store
            if self._store.config.online_store.type == "redis":
                self._source = RedisSource(self._redis(online), self._store.project)
            else:
                connection = online._get_conn(self._store.config)
                self._source = SqliteSource(connection, self._store.project)
        return self._source

    def _redis(self, online: Any) -> object:
        """Redis's client tries again for seconds by itself; here a broken connection is enough reason."""
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError as BrokenConnection
        from redis.retry import Retry

        client = online._get_client(self._store.config.online_store)
        client.set_retry(Retry(NoBackoff(), 1, (BrokenConnection,)))
        return client

    def _look_again(self, age: float) -> None:
        """Reads the notes that were read longer ago than `age` seconds."""
        source = self._prepared()
        moment = time.monotonic()
        for view in self._views:
            if moment - view.looked < age:
                continue
            note = source.note(view.name)
            view.looked = moment
            view.end = datetime.fromisoformat(json.loads(note)["end"]).timestamp() if note else None
            if view.end is not None and view.stored.stream is not None:
                view.end = max(view.end, (source.clock(view.name).pushed or 0) / 1e6)
            self._metrics.lost.labels(view.name).set(view.lost)
            if view.end is not None:
                behind = partial(_age, self._policy.now, view.end)
                self._metrics.age.labels(view.name).set_function(behind)
            if view.lost:
                _logger.error("The online store has lost the view %s.", view.name)


class _Worker:
    """A thread that runs one thing after another, and that nothing waits for at the end."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, step: Callable[..., object], *arguments: object) -> Any:
        """The result of a step; one that nobody waits for any more is not begun."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()

        def tell(result: object, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def job() -> None:
            if future.cancelled():
                return
            result, error = None, None
            try:
                result = step(*arguments)
            except Exception as caught:  # whatever it is, it is raised where the step is awaited
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
                loop.call_soon_threadsafe(tell, result, error)

        self._jobs.put(job)
        return await future

    def submit(self, step: Callable[..., None], *arguments: object) -> None:
        """Runs a step some time; what it raises is logged."""

        def job() -> None:
            try:
                step(*arguments)
            except Exception as error:
                _logger.error("The online store does not answer: %s", error)

        if self._jobs.empty():
            self._jobs.put(job)

    def close(self) -> None:
        """Ends the thread after the step that it is at."""
        self._jobs.put(None)

    def _work(self) -> None:
        while job := self._jobs.get():
            job()


def _age(now: Callable[[], float], end: float) -> float:
    return now() - end


def _known(keys: list[str], rows: list[EntityRow]) -> list[bool]:
    """Of each row, whether it names the entity that these keys are of."""
    there = [key for key in keys if rows and key in rows[0]]
    return [all(row[key] is not None for key in there) for row in rows]


def _plain(feature: Feature, value: Any, moment: int) -> object:
    """A value of the store as a request would have it, at the moment of a prediction."""
    kind = feature.kind
    if value is None or value != value:
        return feature.default
    if feature.since_hours is not None:
        return hours_since(int(value), moment, feature.since_hours)
    if kind == "time":
        return int(value)
    if kind == "numeric":
        return float(value)
    return bool(value) if kind == "boolean" else str(value)
