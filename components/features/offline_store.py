"""A Feast offline store on Polars, for any Feast project whose sources are files.

In a feature_store.yaml::

    offline_store:
        type: slipway.components.features.offline_store.PolarsOfflineStore

Reads Feast's `FileSource` (parquet file or folder, or Delta; local, s3, gs, abfs). Point-in-time joins
keep every entity row, and give the values of Feast's duckdb store.
"""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast.data_format import DeltaFormat
from feast.data_source import DataSource
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import FeatureView
from feast.infra.offline_stores.file_source import (
    FileLoggingDestination,
    FileSource,
    SavedDatasetFileStorage,
)
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.saved_dataset import SavedDatasetStorage

from slipway.components.features.point_in_time import ViewRows, join_point_in_time
from slipway.components.support.stores import POLARS_BOUNDS

if TYPE_CHECKING:
    import polars as pl

CHUNK_ROWS = 2_000_000
"""So many rows of a source are looked at together for each entity's newest."""


class PolarsOfflineStoreConfig(FeastConfigBaseModel):
    """The `offline_store` section of feature_store.yaml."""

    type: Literal["slipway.components.features.offline_store.PolarsOfflineStore"] = (
        "slipway.components.features.offline_store.PolarsOfflineStore"
    )


class PolarsRetrievalJob(RetrievalJob):
    """A join or scan that runs when its result is asked for."""

    def __init__(
        self,
        compute: Callable[[], "pl.DataFrame"],
        *,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._compute = compute
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = on_demand_feature_views or []
        self._metadata = metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._compute().to_arrow(compat_level=_plain_arrow())

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    @property
    def full_feature_names(self) -> bool:
        """Whether features carry their view's name."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """The transformations that Feast applies to the result."""
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """Which features and keys the result has, and its range of time."""
        return self._metadata

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,
        timeout: int | None = None,
    ) -> None:
        """Writes the result to a parquet file.

        Raises:
            ValueError: the storage is no file.
            SavedDatasetLocationAlreadyExists: the file exists and may not be overwritten.
        """
        if not isinstance(storage, SavedDatasetFileStorage):
            raise ValueError(f"This store saves to files, not to {type(storage).__name__}.")
        uri = storage.file_options.uri
        filesystem, path = FileSource.create_filesystem_and_path(
            uri, storage.file_options.s3_endpoint_override
        )
        if not allow_overwrite and _exists(filesystem, path):
            raise SavedDatasetLocationAlreadyExists(location=uri)
        pq.write_table(self.to_arrow(timeout=timeout), path, filesystem=filesystem)


class PolarsOfflineStore(OfflineStore):
    """Feast's offline store interface on Polars."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """See Feast's `OfflineStore.get_historical_features`.

        Raises:
            ValueError: the entity rows are no pandas frame (this store runs no SQL), or have no
                timestamp.
        """
        if not isinstance(entity_df, pd.DataFrame):
            raise ValueError(
                "The Polars offline store takes entity rows as a pandas DataFrame, not SQL."
            )
        timestamp = infer_event_timestamp_from_entity_df(
            dict(zip(entity_df.columns, entity_df.dtypes, strict=True))
        )
        entities = _entity_rows(entity_df, timestamp)
        views = [
            _view_rows(config, view, feature_refs, full_feature_names, filter_by_created_timestamp)
            for view in feature_views
        ]
        return PolarsRetrievalJob(
            lambda: join_point_in_time(entities, timestamp, views),
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(
                feature_refs, project, registry
            ),
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in entity_df.columns if name != timestamp],
                min_event_timestamp=entities[timestamp].min(),  # type: ignore[arg-type]
                max_event_timestamp=entities[timestamp].max(),  # type: ignore[arg-type]
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each entity with start <= timestamp <= end."""
        order = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]
        source = _scan(config, data_source).select(join_key_columns + feature_name_columns + order)

        def newest() -> "pl.DataFrame":
            # A chunk at a time, so that memory grows with the entities and not with the rows.
            import polars as pl

            best, total = None, source.select(pl.len()).collect().item()
            for offset in range(0, max(total, 1), CHUNK_ROWS):
                chunk = source if total <= CHUNK_ROWS else source.slice(offset, CHUNK_ROWS)
                rows = _between(chunk, timestamp_field, start_date, end_date).collect()
                rows = rows if best is None else pl.concat([best, rows])
                best = rows.sort(order, nulls_last=False, maintain_order=True).unique(
                    join_key_columns, keep="last", maintain_order=True
                )
            assert best is not None  # noqa: S101 - the loop runs at least once
            return best

        return PolarsRetrievalJob(newest)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows with start <= timestamp <= end; without a date that side is open."""
        columns = [*join_key_columns, *feature_name_columns, timestamp_field]
        if created_timestamp_column:
            columns.append(created_timestamp_column)
        rows = _between(
            _scan(config, data_source).select(columns), timestamp_field, start_date, end_date
        )
        return PolarsRetrievalJob(lambda: rows.collect())

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], object] | None,
    ) -> None:
        """Appends rows to the view's parquet file.

        Raises:
            ValueError: the view has no file, or the columns are not exactly the file's.
        """
        source = feature_view.batch_source
        if not isinstance(source, FileSource) or isinstance(source.file_format, DeltaFormat):
            raise ValueError(f"View {feature_view.name} has no parquet source to append to.")
        uri = str(FileSource.get_uri_for_file_path(config.repo_path, source.path))
        filesystem, path = FileSource.create_filesystem_and_path(
            uri, source.s3_endpoint_override or ""
        )
        there = pq.read_table(path, filesystem=filesystem)
        if there.column_names != table.column_names:
            raise ValueError(
                f"The rows for view {feature_view.name} have the columns {table.column_names}; its"
                f" file has {there.column_names}, in this order."
            )
        whole = pa.concat_tables([there, table.cast(there.schema)])
        pq.write_table(whole, path, filesystem=filesystem)
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Adds one parquet file of logged features to the destination folder.

        Raises:
            ValueError: the destination is no folder of files.
        """
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise ValueError(f"This store logs to files, not to {type(destination).__name__}.")
        table = pq.read_table(data) if isinstance(data, Path) else data
        filesystem, path = FileSource.create_filesystem_and_path(
            destination.path, destination.s3_endpoint_override
        )
        pq.write_to_dataset(
            table,
            path,
            filesystem=filesystem,
            partition_cols=destination.partition_by or None,
            basename_template=f"{uuid.uuid4().hex}-{{i}}.parquet",
            existing_data_behavior="overwrite_or_ignore",
        )


def _plain_arrow() -> "pl.CompatLevel":
    import polars as pl

    return pl.CompatLevel.oldest()


def _exists(filesystem: Any, path: str) -> bool:
    from pyarrow import fs

    if filesystem is None:
        return Path(path).exists()
    return filesystem.get_file_info(path).type != fs.FileType.NotFound


def _entity_rows(entity_df: pd.DataFrame, timestamp: str) -> "pl.DataFrame":
    """The entity rows in Polars; the moment in UTC (a time without zone is taken as UTC)."""
    import polars as pl

    stamps = pd.to_datetime(entity_df[timestamp], utc=True)
    rows = pl.from_pandas(entity_df.drop(columns=[timestamp]), nan_to_null=True)
    moment = pl.Series(timestamp, stamps).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame([*rows.get_columns(), moment]).select(list(entity_df.columns))


def _view_rows(
    config: RepoConfig,
    view: FeatureView,
    feature_refs: list[str],
    full_feature_names: bool,
    created_before: bool,
) -> ViewRows:
    source = view.batch_source
    if source is None:
        raise ValueError(f"Feature view '{view.name}' has no batch source.")
    asked_as = view.projection.name_to_use()
    shown_as = view.projection.name_alias or view.name
    features = [
        reference.split(":", 1)[1]
        for reference in feature_refs
        if reference.startswith(f"{asked_as}:")
    ]
    return ViewRows(
        rows=_scan(config, source).rename(source.field_mapping, strict=False),
        keys=view.projection.join_key_map or {e.name: e.name for e in view.entity_columns},
        timestamp=source.timestamp_field,
        created=source.created_timestamp_column or None,
        features={name: f"{shown_as}__{name}" if full_feature_names else name for name in features},
        ttl=view.ttl or None,
        created_before=created_before,
    )


def _scan(config: RepoConfig, source: DataSource) -> "pl.LazyFrame":
    """The source's rows, read only when and as far as they are needed."""
    import polars as pl

    if not isinstance(source, FileSource):
        raise ValueError(
            f"The Polars offline store reads FileSource, not {type(source).__name__}:"
            f" source {source.name}."
        )
    uri = str(FileSource.get_uri_for_file_path(config.repo_path, source.path))
    uri = uri.removeprefix("file://")
    options = dict(POLARS_BOUNDS) if "://" in uri else {}
    if source.s3_endpoint_override:
        options["aws_endpoint_url"] = source.s3_endpoint_override
    if isinstance(source.file_format, DeltaFormat):
        return pl.scan_delta(uri, storage_options=options or None)
    return pl.scan_parquet(uri, storage_options=options or None)


def _between(
    rows: "pl.LazyFrame", timestamp: str, start: datetime | None, end: datetime | None
) -> "pl.LazyFrame":
    import polars as pl

    moment = pl.col(timestamp).cast(pl.Datetime("us", "UTC"))
    if start is not None:
        rows = rows.filter(moment >= start.astimezone(UTC))
    if end is not None:
        rows = rows.filter(moment <= end.astimezone(UTC))
    return rows
