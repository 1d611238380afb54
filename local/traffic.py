"""Sends rows of the test part to an endpoint as requests, as their users would have."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.base import format_instant
from slipway.components.contracts.splits import TIME, Splits, part_file, read_splits
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl

CONNECTIONS = 8
DATATYPES = {"numeric": "FP64", "categorical": "BYTES", "boolean": "BOOL", "time": "BYTES"}


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was sent: how many requests, how many failed, and the window of their moments."""

    requests: int
    failed: int
    window_start: str
    window_end: str


def send_traffic(endpoint: str, model: str, splits_folder: Path, stretch: timedelta) -> Traffic:
    """Sends the last `stretch` of the test part, one row a request, each at its own moment.

    Each request carries the moment at which its prediction would have been made (the predictor must
    run with the request clock) and the example's key, so that late labels find it.

    Raises:
        SlipwayError: the endpoint cannot be reached, or refused rows.
    """
    import polars as pl

    splits = read_splits(splits_folder)
    end = datetime.fromisoformat(splits.windows["test"][1])
    start = end - stretch
    rows = (
        pl.scan_parquet(part_file(splits_folder, "test"))
        .filter(pl.col(TIME) >= start, pl.col(TIME) < end)
        .sort(TIME)
        .collect()
    )
    if rows.is_empty():
        raise SlipwayError(f"The test part has no rows in the {stretch} before {end}.")
    lead = timedelta(seconds=splits.lead_seconds)
    failed = send_rows(endpoint, model, splits, rows)
    return Traffic(rows.height, failed, format_instant(start - lead), format_instant(end))


def send_rows(endpoint: str, model: str, splits: Splits, rows: "pl.DataFrame") -> int:
    """Sends rows, one a request, each at the moment of its prediction.

    Returns:
        How many were not answered with 200.

    Raises:
        SlipwayError: the endpoint cannot be reached.
    """
    lead = timedelta(seconds=splits.lead_seconds)
    bodies = [request(splits, row, row[TIME] - lead) for row in rows.iter_rows(named=True)]
    return asyncio.run(_post(f"{endpoint}/v2/models/{model}/infer", bodies))


def request(splits: Splits, row: dict[str, Any], moment: datetime) -> dict[str, Any]:
    """One V2 request for one row, at a moment of its own."""
    inputs = [
        {
            "name": feature.name,
            "shape": [1],
            "datatype": DATATYPES[feature.kind],
            "data": [_plain(row[feature.name])],
        }
        for feature in splits.features
    ]
    key = str(row[splits.key])
    inputs.append({"name": splits.key, "shape": [1], "datatype": "BYTES", "data": [key]})
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return {"id": key, "parameters": {"time": format_instant(moment)}, "inputs": inputs}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


async def _post(url: str, bodies: list[dict[str, Any]]) -> int:
    """Posts all bodies over a few connections; counts the answers that are not 200."""
    import httpx

    failed = 0
    queue = iter(bodies)

    async def worker(client: httpx.AsyncClient) -> None:
        nonlocal failed
        for body in queue:
            answer = await client.post(url, json=body)
            failed += answer.status_code != 200

    limits = httpx.Limits(max_connections=CONNECTIONS)
    try:
        async with httpx.AsyncClient(limits=limits, timeout=30) as client:
            await asyncio.gather(*(worker(client) for _ in range(CONNECTIONS)))
    except httpx.HTTPError as error:
        raise SlipwayError(f"The endpoint {url} does not answer: {error}.") from error
    return failed
