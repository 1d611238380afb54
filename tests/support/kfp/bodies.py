"""Bodies held against the API's published types, pages, and what can be stored."""

import json
from datetime import datetime
from typing import Any

import kfp_server_api as kfp

from support.kfp.state import Double, Refused


def checked(model: Any, content: Any, where: str = "body") -> dict[str, Any]:
    """Refuses a body with a field or a type that the published type does not have."""
    if not isinstance(content, dict):
        raise Refused(400, f"{where} is no object")
    names = {json_name: name for name, json_name in model.attribute_map.items()}
    for key, value in content.items():
        if key not in names:
            raise Refused(400, f'proto: (line 1:2): unknown field "{key}" in {where}')
        if value is not None:
            _checked_type(model.openapi_types[names[key]], value, f"{where}.{key}")
    return content


def _checked_type(kind: str, value: Any, where: str) -> None:
    simple = {"str": str, "bool": bool, "int": int, "object": object}
    if kind in simple:
        if not isinstance(value, simple[kind]):
            raise Refused(400, f"proto: invalid value for {kind} field {where}: {value!r}")
    elif kind == "datetime":
        datetime.fromisoformat(value)
    elif kind.startswith("dict("):
        if not isinstance(value, dict):
            raise Refused(400, f"{where} is no map")
    elif kind.startswith("list["):
        for item in value:
            _checked_type(kind[5:-1], item, where)
    else:
        model = getattr(kfp, kind)
        if hasattr(model, "allowable_values") and model.allowable_values:
            if value not in model.allowable_values:
                raise Refused(400, f"proto: invalid value for enum field {where}: {value!r}")
        else:
            checked(model, value, where)


def read_json(body: bytes) -> Any:
    try:
        return json.loads(body or b"{}")
    except ValueError as error:
        raise Refused(400, f"not JSON: {error}") from error


def paged(
    double: Double, field_name: str, items: list[dict[str, Any]], query: dict[str, str]
) -> Any:
    items = [item for item in items if matches(item, query.get("filter", ""))]
    if query.get("sort_by", "").startswith("created_at desc"):
        items = sorted(items, key=lambda item: item["created_at"], reverse=True)
    asked = [query.get("sort_by", ""), query.get("filter", "")]
    token = json.loads(query.get("page_token") or "null") or {"start": 0, "asked": asked}
    if any(asked) and token["asked"] != asked:
        raise Refused(
            400, "page token does not match the supplied sort by and/or filtering criteria"
        )
    start = token["start"]
    size = min(int(query.get("page_size") or 20), double.page_size)
    page: dict[str, Any] = {field_name: items[start : start + size], "total_size": len(items)}
    if start + size < len(items):
        page["next_page_token"] = json.dumps({"start": start + size, "asked": asked})
    return page


def matches(item: dict[str, Any], text: str) -> bool:
    if not text:
        return True
    for predicate in json.loads(text)["predicates"]:
        # By name or, as kfp.Client sends it, by the number that protobuf gives it.
        if predicate["operation"] not in ("EQUALS", 1) or predicate["key"] not in (
            "display_name",
            "name",
        ):
            raise Refused(400, f"no such filter: {predicate}")
        wanted = predicate.get("string_value", predicate.get("stringValue"))
        if item.get("display_name") != wanted:
            return False
    return True


def find(store: dict[str, dict[str, Any]], identity: str, what: str) -> dict[str, Any]:
    if identity not in store:
        raise Refused(404, f"{what} {identity} not found")
    return store[identity]


def as_stored(value: Any) -> Any:
    """Numbers as protobuf's Struct keeps them: doubles, whole ones written without a fraction."""
    if isinstance(value, dict):
        return {key: as_stored(part) for key, part in value.items()}
    if isinstance(value, list):
        return [as_stored(part) for part in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(double) if (double := float(value)).is_integer() else double
    return value


def check_storable(what: str, *values: Any) -> None:
    text = json.dumps(values, ensure_ascii=False)
    if beyond := next((c for c in text if ord(c) > 0xFFFF), ""):
        raise Refused(
            500, f"Failed to store {what}: Error 1366: Incorrect string value: {beyond!a}"
        )
