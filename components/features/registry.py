"""What the project file declares, as Feast's entities, views and service, applied to its registry."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from components.contracts.config.features import FeaturesConfig, Kind
from components.contracts.errors import SlipwayError
from components.contracts.feature_store import CONFIG_FILE, ENTITY_KEY_VERSION, StoreLocation
from components.contracts.files import write_text
from components.features.aggregates import KNOWN

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureStore
    from feast.types import PrimitiveFeastType

OFFLINE_STORE = "components.features.offline_store.PolarsOfflineStore"


def open_store(place: StoreLocation) -> "FeatureStore":
    """Opens the project's feature store, and writes the file that the `feast` command reads.

    Raises:
        SlipwayError: the online store has no place.
    """
    import yaml
    from feast import FeatureStore, RepoConfig

    base = place.folder if place.folder is not None else place.root
    config = {
        "project": place.project,
        "provider": "local",
        "registry": f"{base}/registry.db",
        "offline_store": {"type": OFFLINE_STORE},
        "online_store": place.online_store,
        "entity_key_serialization_version": ENTITY_KEY_VERSION,
    }
    if place.folder is None:
        return FeatureStore(config=RepoConfig(**config))
    written = dict(config)
    if place.redis:
        # Feast fills it in from the environment: a password does not belong in a file.
        written["online_store"] = {"type": "redis", "connection_string": "${FEAST_REDIS_URL}"}
    write_text(place.folder / CONFIG_FILE, yaml.safe_dump(written, sort_keys=False))
    return FeatureStore(config=RepoConfig(**config, repo_path=place.folder))


def apply_definitions(
    store: "FeatureStore",
    place: StoreLocation,
    config: FeaturesConfig,
    key_types: dict[str, "pa.DataType"],
    kinds: dict[str, dict[str, Kind]],
) -> None:
    """Registers the project's entities, views and service; what is no longer declared goes.

    Args:
        store: the opened store.
        place: where the views' tables lie.
        config: the `features` section.
        key_types: entity key column to its Arrow type.
        kinds: view to its features and their kinds.
    """
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
    from feast.types import Int64, String

    text = {column: not _is_integer(column, kind) for column, kind in key_types.items()}
    entities = {
        name: Entity(
            name=name,
            join_keys=[column],
            value_type=ValueType.STRING if text[column] else ValueType.INT64,
        )
        for name, column in config.entities.items()
    }
    views: list[FeatureView] = []
    for view in config.views:
        column = config.entities[view.entity]
        fields = [
            Field(name=name, dtype=_feast_type(kind)) for name, kind in kinds[view.name].items()
        ]
        views.append(
            FeatureView(
                name=view.name,
                entities=[entities[view.entity]],
                ttl=view.ttl if view.ttl and view.time else timedelta(0),
                schema=[Field(name=column, dtype=String if text[column] else Int64), *fields],
                source=FileSource(
                    name=f"{view.name}_rows", path=place.table(view.name), timestamp_field=KNOWN
                ),
                online=view.online,
            )
        )
    service = FeatureService(name=place.project, features=list(views))
    old: list[Any] = [view for view in store.list_feature_views() if view.name not in kinds]
    old += [entity for entity in store.list_entities() if entity.name not in entities]
    store.apply([*entities.values(), *views, service], objects_to_delete=old, partial=False)


def _is_integer(column: str, kind: "pa.DataType") -> bool:
    import pyarrow as pa

    if pa.types.is_integer(kind):
        return True
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return False
    raise SlipwayError(
        f"Entity key {column} is of type {kind}: an entity's key is text or a whole number."
    )


def _feast_type(kind: Kind) -> "PrimitiveFeastType":
    from feast.types import Bool, Float64, String, UnixTimestamp

    return {"numeric": Float64, "categorical": String, "boolean": Bool, "time": UnixTimestamp}[kind]
