"""Sends rows of the test part to an endpoint as requests, as their users would have."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.base import EARLIEST, format_duration, format_instant, next_second
from slipway.components.contracts.rows.requests import DATATYPES
from slipway.components.contracts.splits import (
    PART,
    TIME,
    UNLABELLED,
    Splits,
    part_file,
    read_splits,
)
from slipway.components.monitor.measures.system import scrape
from slipway.components.support.errors import SlipwayError
from slipway.components.support.retry import TimeSource, wait_until

if TYPE_CHECKING:
    import httpx
    import polars as pl

CONNECTIONS = 8
LOG_SECONDS = 60.0
MOST_ROWS = 10_000
"""Of a test part without time at most so many rows are sent, evenly spaced."""
_TELL_EVERY = 100
_ASK_EVERY = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What was sent: how many requests, how many failed, and the window of their moments."""

    requests: int
    failed: int
    window_start: str
    window_end: str


Told = Callable[[int, int], None]
"""Takes how many requests were answered, and of how many."""


def send_traffic(
    endpoint: str,
    model: str,
    splits_folder: Path,
    stretch: timedelta,
    tell: Told = lambda done, of: None,
) -> Traffic:
    """Sends the last `stretch` of the test part, one row a request, each at its own moment.

    Each request carries the moment at which its prediction would have been made (the predictor must
    run with the request clock) and the example's key, so that late labels find it. Rows without time are
    all sent, and count from when they come. `tell` hears of the progress.

    Raises:
        SlipwayError: the stretch has no rows, or the endpoint cannot be reached.
    """
    splits = read_splits(splits_folder)
    if not splits.windows:
        return _send_now(endpoint, model, splits, _test_rows(splits_folder).collect(), tell)
    start, end = _stretch(splits, stretch)
    rows = _rows(splits_folder, start, end).sort(TIME).collect()
    if rows.is_empty():
        require_traffic(splits_folder, stretch)
    lead = timedelta(seconds=splits.lead_seconds)
    failed = send_rows(endpoint, model, splits, rows, tell)
    return Traffic(
        requests=rows.height,
        failed=failed,
        window_start=format_instant(start - lead),
        window_end=format_instant(end),
    )


def _send_now(
    endpoint: str, model: str, splits: Splits, rows: "pl.DataFrame", tell: Told
) -> Traffic:
    """Sends rows without time; the window is that of the whole seconds in which they came."""
    rows = rows.sort(splits.order).gather_every(-(-rows.height // MOST_ROWS))
    start = datetime.now(UTC).replace(microsecond=0)
    failed = send_rows(endpoint, model, splits, rows, tell)
    end = next_second(datetime.now(UTC))
    return Traffic(
        requests=rows.height,
        failed=failed,
        window_start=format_instant(start),
        window_end=format_instant(end),
    )


def require_traffic(splits_folder: Path, stretch: timedelta) -> None:
    """Asks, as soon as the parts are cut, whether there is anything to send.

    Raises:
        SlipwayError: the test part has no row in its last `stretch`.
    """
    import polars as pl

    splits = read_splits(splits_folder)
    if not splits.windows:
        return  # no part is empty
    start, end = _stretch(splits, stretch)
    times = _rows(splits_folder, EARLIEST, end).select(TIME)
    last = times.select(pl.col(TIME).max()).collect().item()
    if last is None or last < start:
        at = f"its last row is at {format_instant(last)}" if last else "it has no row"
        raise SlipwayError(
            f"--traffic {format_duration(stretch)}: the test part has no row from"
            f" {format_instant(start)} to {format_instant(end)}; {at}. Give a longer stretch, or"
            " --traffic 0d to send nothing."
        )


def _stretch(splits: Splits, stretch: timedelta) -> tuple[datetime, datetime]:
    """The last stretch of the test part: up to the end of the data, where they end before the window."""
    end = datetime.fromisoformat(splits.notes.get("data_end") or splits.windows["test"][1])
    return end - stretch, end


def _rows(splits_folder: Path, start: datetime, end: datetime) -> "pl.LazyFrame":
    import polars as pl

    return _test_rows(splits_folder).filter(pl.col(TIME) >= start, pl.col(TIME) < end)


def _test_rows(splits_folder: Path) -> "pl.LazyFrame":
    """The test part, and its rows without a label."""
    import polars as pl

    rows = pl.scan_parquet(part_file(splits_folder, "test"))
    if (unlabelled := splits_folder / UNLABELLED).is_file():
        # Their users would have asked for them too: nobody knows yet which will have a label.
        rest = pl.scan_parquet(unlabelled).filter(pl.col(PART) == "test")
        rows = pl.concat([rows, rest.select(rows.collect_schema().names())])
    return rows


def wait_until_logged(
    endpoint: str, seconds: float = LOG_SECONDS, *, clock: TimeSource = time
) -> str:
    """Waits until a predictor has stored every row of its inference log that it accepted.

    It spools for a moment and ships by the file, so the last answers reach the store seconds later.

    Args:
        endpoint: the predictor's base URL.
        seconds: how long, at most.
        clock: that it goes by.

    Returns:
        What is missing, in words; empty: all is stored.
    """
    pending: float | None = None

    def is_stored() -> bool:
        nonlocal pending
        pending = scrape(endpoint).get("log_pending_rows")
        return not pending

    try:
        wait_until(is_stored, timeout=seconds, every=_ASK_EVERY, clock=clock)
    except SlipwayError as error:
        return f"Whether the inference log is stored could not be asked: {error}"
    if pending is None:
        return (
            f"The predictor at {endpoint} does not say whether its inference log is stored: it"
            " keeps none, or is of an earlier release. What is monitored may lack the last rows."
        )
    if not pending:
        return ""
    return (
        f"After {seconds:.0f} s {pending:,.0f} rows of the inference log are not stored yet:"
        " what is monitored lacks them. Its store (INFERENCE_LOG_URI) is slow or refuses them:"
        " the predictor's log says which."
    )


def send_rows(
    endpoint: str,
    model: str,
    splits: Splits,
    rows: "pl.DataFrame",
    tell: Told = lambda done, of: None,
) -> int:
    """Sends rows, one a request, each at the moment of its prediction; without time at that it comes.

    Returns:
        How many were not answered with 200.

    Raises:
        SlipwayError: the endpoint cannot be reached.
    """
    lead = timedelta(seconds=splits.lead_seconds)
    timed = TIME in rows.columns
    bodies = [
        request(splits, row, row[TIME] - lead if timed else None)
        for row in rows.iter_rows(named=True)
    ]
    return asyncio.run(_post(f"{endpoint}/v2/models/{model}/infer", bodies, tell))


def request(splits: Splits, row: dict[str, Any], moment: datetime | None) -> dict[str, Any]:
    """One V2 request for one row, at a moment of its own; None: that of its coming."""
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
    for name in splits.key_columns or (splits.key,):
        inputs.append({"name": name, "shape": [1], "datatype": "BYTES", "data": [str(row[name])]})
    body = {"id": key, "inputs": inputs}
    if moment is None:
        return body
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return {"id": key, "parameters": {"time": format_instant(moment)}, "inputs": inputs}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


async def _post(
    url: str,
    bodies: list[dict[str, Any]],
    tell: Told,
    transport: "httpx.AsyncBaseTransport | None" = None,
) -> int:
    """Posts all bodies over a few connections; counts the answers that are not 200."""
    import httpx

    failed = done = 0
    queue = iter(bodies)

    async def worker(client: httpx.AsyncClient) -> None:
        nonlocal failed, done
        for body in queue:
            answer = await client.post(url, json=body)
            failed += answer.status_code != 200
            done += 1
            if not done % _TELL_EVERY:
                tell(done, len(bodies))

    limits = httpx.Limits(max_connections=CONNECTIONS)
    try:
        async with httpx.AsyncClient(limits=limits, timeout=30, transport=transport) as client:
            await asyncio.gather(*(worker(client) for _ in range(CONNECTIONS)))
    except httpx.HTTPError as error:
        raise SlipwayError(f"The endpoint {url} does not answer: {error}.") from error
    return failed
