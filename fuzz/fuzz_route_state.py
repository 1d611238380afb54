"""OSS-Fuzz entry: route state."""

import atheris

with atheris.instrument_imports():
    from targets import run_atheris

run_atheris("route_state")
