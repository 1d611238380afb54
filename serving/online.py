"""Online features: what a request with entity keys leaves out is read from Feast, in one batch.

Feast is imported only where the setting `online` asks for it: it takes seconds and memory.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.feature_store import repo_config
from slipway.components.contracts.requests import DATATYPES
from slipway.components.contracts.splits import Feature
from slipway.components.support.errors import SlipwayError
from slipway.serving.errors import RequestError
from slipway.serving.protocol.rows import RowReader

_EPOCH = datetime(1970, 1, 1)
# A time comes from the store as microseconds, not as text.
_DATATYPES = DATATYPES | {"time": "INT64"}


class OnlineFeatures:
    """Reads the feature service that a bundle names."""

    def __init__(self, project: str, bundle: Bundle) -> None:
        try:
            from feast import FeatureStore, RepoConfig
            from feast.errors import FeatureServiceNotFoundException
        except ImportError as error:
            raise SlipwayError(
                "Online features are asked for, but this image has no Feast: use the image with it,"
                " or start the predictor without --online."
            ) from error
        self._store = FeatureStore(config=RepoConfig(**repo_config(project)))
        try:
            self._service = self._store.get_feature_service(bundle.feature_service)
        except FeatureServiceNotFoundException as error:
            raise SlipwayError(
                f"The feature store has no service '{bundle.feature_service}'. Run the features stage."
            ) from error
        self._keys, self._stand_ins, self._kept = self._join_keys()
        # Feast's sqlite connection belongs to one thread.
        self._thread = ThreadPoolExecutor(1, "online-features")

    async def complete(self, reader: RowReader, tensors: list[Any]) -> list[Any]:
        """The request's tensors with those of the absent features, as the online store has them.

        A value that came with the request stands; one that the store does not have is the feature's
        default for a known entity (a count of 0), and else missing.

        Raises:
            RequestError: 400, an entity key is not of its type; 503, the store does not answer, or is
                another model's.
        """
        absent = reader.absent(tensors)
        if not_kept := [
            f.name for f in absent if f.name in self._keys and f.name not in self._kept
        ]:
            raise RequestError(
                f"The online store does not keep {', '.join(not_kept)} (the view says `online: false`):"
                " send a value."
            )
        rows = reader.entity_rows(tensors)
        loop = asyncio.get_running_loop()
        try:
            values = await loop.run_in_executor(self._thread, self._read, rows)
        except RequestError:
            raise
        except Exception as error:  # each store behind Feast has errors of its own
            raise RequestError(f"The online store does not answer: {error}", 503) from error
        lacking = [feature.name for feature in absent if feature.name not in values]
        if lacking:
            raise RequestError(
                f"The feature store has no feature {', '.join(lacking)}: it was filled for another model."
                " Send a value, or run the features stage with this model's project file.", 503
            )  # fmt: skip
        made = []
        for feature in absent:
            known = self._known(feature.name, rows)
            data = [
                _plain(feature, value) if there else None
                for value, there in zip(values[feature.name], known, strict=True)
            ]
            datatype = _DATATYPES[feature.kind]
            made.append(
                {"name": feature.name, "datatype": datatype, "shape": [len(rows)], "data": data}
            )
        return [*tensors, *made]

    def _join_keys(self) -> tuple[dict[str, list[str]], dict[str, Any], dict[str, str]]:
        """Feature to its key columns; a value of each key's type; what is kept, as Feast calls it."""
        keys: dict[str, list[str]] = {}
        some: dict[str, Any] = {}
        kept: dict[str, str] = {}
        for projection in self._service.feature_view_projections:
            view = self._store.get_feature_view(projection.name)
            keys |= {feature.name: list(view.join_keys) for feature in projection.features}
            if view.online:
                kept |= {f.name: f"{view.name}:{f.name}" for f in projection.features}
            for column in view.entity_columns:
                some[column.name] = "" if str(column.dtype) == "String" else 0
        return keys, some, kept

    def _known(self, feature: str, rows: list[dict[str, Any]]) -> list[bool]:
        """Of each row, whether it names the entity of a feature."""
        keys = [key for key in self._keys.get(feature, []) if rows and key in rows[0]]
        return [all(row[key] is not None for key in keys) for row in rows]

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown()

    def _read(self, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
        # Feast has no key for a null. Any value of the key's type does: what it finds is not taken.
        rows = [
            {
                key: self._stand_ins.get(key) if value is None else value
                for key, value in row.items()
            }
            for row in rows
        ]
        # Not the service: it has the views with `online: false` too, which no online store holds.
        asked = list(self._kept.values())
        answer = self._store.get_online_features(features=asked, entity_rows=rows)
        found: dict[str, list[Any]] = answer.to_dict()
        return found


def _plain(feature: Feature, value: Any) -> Any:
    """A value of the store as a request would have it."""
    kind = feature.kind
    if value is None or value != value:
        return feature.default
    if kind == "time":
        if isinstance(value, datetime):
            moment = value.astimezone(UTC) if value.tzinfo else value
            span = moment.replace(tzinfo=None) - _EPOCH
            return (span.days * 86400 + span.seconds) * 1_000_000 + span.microseconds
        return int(value)
    if kind == "numeric":
        return float(value)
    return bool(value) if kind == "boolean" else str(value)
