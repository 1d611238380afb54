"""What the project file declares, as Feast's entities, views and service, applied to its registry."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slipway.components.config.features.features import (
    FeaturesConfig,
    FeatureView,
    Kind,
    OfflineStore,
)
from slipway.components.config.features.reach import longest_window
from slipway.components.contracts.feature_store import (
    CONFIG_FILE,
    ENTITY_KEY_VERSION,
    StoreLocation,
    is_text_key,
)
from slipway.components.contracts.splits import TIME
from slipway.components.contracts.streams import TAG, StreamTag
from slipway.components.features.views.views import ViewTable
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import write_text
from slipway.components.support.libraries.feast_import import load_feast

if TYPE_CHECKING:
    from feast import FeatureStore
    from feast.data_source import DataSource
    from feast.types import PrimitiveFeastType

POLARS = "slipway.components.features.offline_store.PolarsOfflineStore"
_PACKAGES = {"spark": "pyspark"}


def open_store(place: StoreLocation, engine: OfflineStore | None = None) -> "FeatureStore":
    """Opens the project's feature store, and writes the file that the `feast` command reads.

    Args:
        place: where the store lies.
        engine: what joins; None means Polars.

    Raises:
        SlipwayError: the online store has no place; the engine is not installed, or refuses its
            options.
    """
    load_feast()
    import yaml
    from feast import FeatureStore, RepoConfig
    from pydantic import ValidationError

    from slipway.components.config.checks.messages import settings_problems

    engine = engine or OfflineStore()
    base = place.folder if place.folder is not None else place.root
    config = {
        "project": place.project,
        "provider": "local",
        "registry": f"{base}/registry.db",
        "offline_store": _offline_section(engine),
        "online_store": place.online_store,
        "entity_key_serialization_version": ENTITY_KEY_VERSION,
    }
    try:
        settings = RepoConfig(**config, repo_path=place.folder)
        _ = settings.offline_store  # read here, so that an error names the wrong option
    except ValidationError as error:
        found = settings_problems(
            error, config["offline_store"], RepoConfig, "features.offline_store.options"
        )
        raise SlipwayError(f"features.offline_store.options are wrong: {found}") from error
    if place.folder is None:
        return FeatureStore(config=settings)
    written = dict(config)
    if place.redis:
        # Feast fills it in from the environment: a password does not belong in a file.
        written["online_store"] = {"type": "redis", "connection_string": "${FEAST_REDIS_URL}"}
    write_text(place.folder / CONFIG_FILE, yaml.safe_dump(written, sort_keys=False))
    return FeatureStore(config=settings)


def _offline_section(engine: OfflineStore) -> dict[str, object]:
    """Feast's `offline_store` section.

    Raises:
        SlipwayError: the engine's package is not installed.
    """
    from importlib.util import find_spec

    if engine.type == "polars":
        return {"type": POLARS}
    package = _PACKAGES[engine.type]
    if find_spec(package) is None:
        raise SlipwayError(
            f"features.offline_store is {engine.type}, and {package} is not installed here. Add it to"
            " the image of features (docs/features.md says how), or take `type: polars`."
        )
    # Times come back in the session's zone, and Feast means UTC.
    zone = {"spark.sql.session.timeZone": "UTC"}
    conf = {**engine.options.get("spark_conf", {}), **zone}
    return {"type": engine.type, **engine.options, "spark_conf": conf}


def apply_definitions(
    store: "FeatureStore",
    place: StoreLocation,
    config: FeaturesConfig,
    keys: Mapping[str, str],
    made: Mapping[str, ViewTable],
) -> None:
    """Registers the project's entities, views and service; what is no longer declared goes.

    Args:
        store: the opened store.
        place: where the views' tables lie.
        config: the `features` section.
        keys: the entities' key columns with their Arrow types.
        made: view to what its table holds.
    """
    from feast import Entity, FeatureService, Field, ValueType
    from feast import FeatureView as FeastView
    from feast.types import Int64, String

    text = {column: is_text_key(kind) for column, kind in keys.items()}
    entities = {
        name: Entity(
            name=name,
            join_keys=[column],
            value_type=ValueType.STRING if text[column] else ValueType.INT64,
        )
        for name, column in _feast_entities(config).items()
    }
    views: list[FeastView] = []
    for view in config.views:
        columns = config.keys_of(view)
        fields = [
            Field(name=name, dtype=_feast_type(kind))
            for name, kind in made[view.name].kinds.items()
        ]
        views.append(
            FeastView(
                name=view.name,
                entities=[entities[name] for name in _entities_of(view, config)],
                ttl=view.ttl if view.ttl and view.time else timedelta(0),
                schema=[
                    *(Field(name=c, dtype=String if text[c] else Int64) for c in columns),
                    *fields,
                ],
                source=_source_of(config, view, place),
                online=config.is_online(view),
                tags=_tags(config, view),
            )
        )
    beside = {view.name for view in config.views if config.is_beside(view)}
    service = FeatureService(
        name=place.project, features=[view for view in views if view.name not in beside]
    )
    old: list[Any] = [view for view in store.list_feature_views() if view.name not in made]
    old += [entity for entity in store.list_entities() if entity.name not in entities]
    store.apply([*entities.values(), *views, service], objects_to_delete=old, partial=False)


def _feast_entities(config: FeaturesConfig) -> dict[str, str]:
    """Feast's entities, each with its one key column: of a key of several, each column is one."""
    found = {name: key[0] for name, key in config.entity_keys.items() if len(key) == 1}
    for key in config.entity_keys.values():
        for column in key:
            if column not in found.values():
                name = column
                while name in found:
                    name += "_"
                found[name] = column
    return found


def _entities_of(view: FeatureView, config: FeaturesConfig) -> list[str]:
    """Feast's entities that a view is looked up by."""
    keys = config.keys_of(view)
    if len(keys) == 1:
        return [config.entity_of(view)]
    by_column = {column: name for name, column in reversed(_feast_entities(config).items())}
    return [by_column[column] for column in keys]


def _source_of(config: FeaturesConfig, view: FeatureView, place: StoreLocation) -> "DataSource":
    """Where a view's rows come from; where its events are pushed, Feast's own `push` works as well."""
    from feast import PushSource

    table = _source(config.offline_store, view.name, place)
    if config.stream_of(view) is None:
        return table
    return PushSource(name=f"{view.name}_push", batch_source=table)


def _tags(config: FeaturesConfig, view: FeatureView) -> dict[str, str]:
    """What a reader of the online store must know of a view."""
    if config.stream_of(view) is None:
        return {}
    microsecond = timedelta(microseconds=1)
    ttl = (view.ttl or timedelta(0)) // microsecond
    return {TAG: StreamTag(longest=longest_window(view) // microsecond, ttl=ttl).text()}


def _source(engine: OfflineStore | None, view: str, place: StoreLocation) -> "DataSource":
    """The view's table, as the engine reads it."""
    from feast import FileSource
    from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource

    name, path = f"{view}_rows", place.table(view)
    if engine is not None and engine.type == "spark":
        return SparkSource(name=name, path=path, file_format="parquet", timestamp_field=TIME)
    return FileSource(name=name, path=path, timestamp_field=TIME)


def _feast_type(kind: Kind) -> "PrimitiveFeastType":
    from feast.types import Bool, Float64, String, UnixTimestamp

    return {"numeric": Float64, "categorical": String, "boolean": Bool, "time": UnixTimestamp}[kind]
