"""The project file's JSON Schema, for editors: made from the models, so that it says what they say."""

import json

from slipway.components.config.model import CHOICES, Project

ID = "https://slipway.dev/schemas/project.json"


def schema_text() -> str:
    """The schema as a file has it."""
    return json.dumps(project_schema(), indent=1) + "\n"


def project_schema() -> dict[str, object]:
    """A JSON Schema that completes and checks a project file while it is written.

    What no schema can say (that tables, columns and durations fit one another) is said when the file is
    loaded.
    """
    schema = Project.model_json_schema(by_alias=True, mode="validation")
    for name, choices in CHOICES.items():
        schema["properties"][name]["enum"] = [choice for choice, works in choices.items() if works]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        **schema,
        "title": "Slipway's project file",
    }
