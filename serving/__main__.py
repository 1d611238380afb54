"""`python -m slipway.serving`: starts the predictor."""

import sys

from slipway.components.support.errors import SlipwayError
from slipway.components.support.secrets import guard_output
from slipway.serving.object_store import exit_beside_hanging
from slipway.serving.settings import parse_settings


def main() -> int:
    """Runs the predictor; 0 after a signal, 1 where it cannot serve."""
    guard_output()
    try:
        settings = parse_settings(sys.argv[1:])
        from slipway.serving.server import serve

        serve(settings)
    except SlipwayError as error:
        print(f"error: {error}", file=sys.stderr)
        exit_beside_hanging(1)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
