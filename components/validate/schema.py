"""The schema file, checked against its meta-schema and taken apart."""

import json
from pathlib import Path
from typing import Any

from slipway.components.contracts.table_schema.schema import (
    RunMoments,
    TableSchema,
    read_schema,
    table_schema,
)
from slipway.components.support.errors import SlipwayError
from slipway.components.support.libraries.imports import without

META_SCHEMA = Path(__file__).with_name("schema.meta.json")


def parse_schema(schema: dict[str, Any] | str, moments: RunMoments) -> dict[str, TableSchema]:
    """Takes a schema's content apart.

    Args:
        schema: the content of the file, as text or read.
        moments: the meaning of window_start, window_end and now.

    Raises:
        SlipwayError: it is not a schema; all that is wrong is listed.
    """
    if isinstance(schema, str):
        schema = read_schema(schema)
    jsonschema = _jsonschema()
    meta = json.loads(META_SCHEMA.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(meta)
    problems = [
        f"{'.'.join(str(part) for part in error.absolute_path) or 'the schema'}: {_said(error)}"
        for error in sorted(validator.iter_errors(schema), key=lambda e: list(map(str, e.path)))
    ]
    if problems:
        raise SlipwayError(f"The schema file is wrong. {'; '.join(problems)}.")
    assert isinstance(schema, dict)  # noqa: S101  # the meta-schema says so
    return {name: table_schema(name, table, moments) for name, table in schema["tables"].items()}


def _jsonschema() -> Any:
    """The library, without its check of international addresses, which takes 3 s to import."""
    with without("rfc3987_syntax"):
        import jsonschema
    return jsonschema


def _said(error: Any) -> str:
    """A problem in words: for a value that fits no branch, what the schema says of it."""
    if error.validator in ("oneOf", "anyOf") and "description" in error.schema:
        return f"{error.instance!r} is not allowed ({error.schema['description'].rstrip('.')})"
    return str(error.message)
