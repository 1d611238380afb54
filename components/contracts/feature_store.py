"""Feature store: where its registry, tables and online store lie. Written by features, read by serving.

Layout below FEATURE_STORE_URI, version 1::

    <project>/feature_store.yaml     for the `feast` command: run it in this folder
    <project>/registry.db            Feast's registry
    <project>/tables/<view>.parquet  the views' rows: entity key, event_timestamp, features
    <project>/online.db              the sqlite online store, where FEAST_REDIS_URL is not set

The Feast project and the feature service both have the project's name, with `_` for each `-` (Feast
uses the name in SQL table names). A serving process reads online features with nothing but::

    store = FeatureStore(config=RepoConfig(**repo_config(project)))
    store.get_online_features(features=store.get_feature_service(service), entity_rows=[...])
"""

from dataclasses import dataclass
from pathlib import Path

from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError

CONFIG_FILE = "feature_store.yaml"
# The online store holds, of each view, a note of the moment that it stands for (`end`, ISO 8601) and of
# how much is written. sqlite has it in this table, by `note_name`; no view's table has a point in its
# name.
NOTES_TABLE = '"slipway.materialised"'
ENTITY_KEY_VERSION = 3
ANSWER_SECONDS = 30.0


def feast_name(project: str) -> str:
    """The name that a project has in Feast; its feature service has the same."""
    return project.replace("-", "_")


def note_name(project: str, view: str) -> str:
    """What the note of a view is called in sqlite, by Feast's name of the project."""
    return f"{project}_{view}"


def redis_note_key(project: str, view: str) -> str:
    """The key of a view's note in Redis, by Feast's name of the project."""
    return f"slipway:materialised:{project}:{view}"


def is_text_key(arrow_type: str) -> bool:
    """Whether the store holds an entity key of this Arrow type as text, and not as an int64.

    Whole numbers beyond 2**63 have no type in Feast's keys.
    """
    return not arrow_type.startswith(("int", "uint")) or arrow_type == "uint64"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLocation:
    """Where one project's feature store lies.

    Attributes:
        root: folder or object-store prefix of this project, without a slash at its end.
        project: the project's name in Feast.
        redis: connection string of the online store; None means sqlite below `root`.
        answer_seconds: what Redis may take to let a client in, and for each answer.
    """

    root: str
    project: str
    redis: str | None
    answer_seconds: float = ANSWER_SECONDS

    @property
    def folder(self) -> Path | None:
        """The root as a local folder, or None where it is in an object store."""
        if "://" not in self.root:
            return Path(self.root)
        return Path(self.root.removeprefix("file://")) if self.root.startswith("file://") else None

    def table(self, view: str) -> str:
        """Path or URI of a view's table."""
        base = self.folder if self.folder is not None else self.root
        return f"{base}/tables/{view}.parquet"

    @property
    def online_store(self) -> dict[str, object]:
        """Feast's `online_store` section.

        Raises:
            SlipwayError: neither a local folder nor Redis is there to hold online features.
        """
        if self.redis:
            return {"type": "redis", "connection_string": self._bounded(self.redis)}
        if self.folder is None:
            raise SlipwayError(
                f"FEATURE_STORE_URI is {self.root}: an object store cannot hold the sqlite online"
                " store. Set FEAST_REDIS_URL to host:port of a Redis server, or FEATURE_STORE_URI"
                " to a folder."
            )
        return {"type": "sqlite", "path": str(self.folder / "online.db")}

    def _bounded(self, text: str) -> str:
        """The connection string with the times that it does not give: without, clients wait for ever."""
        given = {part.partition("=")[0] for part in text.split(",")}
        times = ("socket_timeout", "socket_connect_timeout")
        return ",".join([text, *(f"{n}={self.answer_seconds:g}" for n in times if n not in given)])


def locate(project: str, *, answer_seconds: float = ANSWER_SECONDS) -> StoreLocation:
    """Where the environment says that the project's feature store lies."""
    uri = environment.feature_store_uri().rstrip("/")
    if "://" not in uri:
        uri = str(Path(uri).absolute())
    return StoreLocation(
        root=f"{uri}/{project}",
        project=feast_name(project),
        redis=environment.redis_url(),
        answer_seconds=answer_seconds,
    )


def repo_config(project: str, *, answer_seconds: float = ANSWER_SECONDS) -> dict[str, object]:
    """Keyword arguments of `feast.RepoConfig` that suffice to read online features."""
    place = locate(project, answer_seconds=answer_seconds)
    base = place.folder if place.folder is not None else place.root
    return {
        "project": place.project,
        "provider": "local",
        "registry": f"{base}/registry.db",
        "online_store": place.online_store,
        "entity_key_serialization_version": ENTITY_KEY_VERSION,
    }
