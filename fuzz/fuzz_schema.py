"""OSS-Fuzz entry: schema."""

import atheris

with atheris.instrument_imports():
    from targets import run_atheris

run_atheris("schema")
