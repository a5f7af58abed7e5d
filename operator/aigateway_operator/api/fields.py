"""The base of all spec models and the field types they share: ports, names, references.

Limits here become `minimum`, `maxLength`, `pattern` … of the CRD. Patterns are RE2 (pydantic's and the API server's engine).
Source of the name patterns: Kubernetes "Object Names and IDs"; of the key pattern: `Secret.data`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from pydantic.alias_generators import to_camel

DNS_LABEL: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
SECRET_KEY: Final = r"^[-._a-zA-Z0-9]+$"
MODEL_NAME: Final = r"^[^\p{C}\p{Z}]+$"
RELATIVE_PATH: Final = r"^[^/\p{C}][^\p{C}]*$"

MAX_NAME: Final = 253
MAX_URL: Final = 2048
MAX_TEXT: Final = 253
MAX_PROPERTIES: Final = 64
"""Keys in one level of an open map."""

LIST_MAP_BY_NAME: Final = Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]})
"""A list of named objects: two managers may own an item each, and no name occurs twice."""
ATOMIC: Final = Field(json_schema_extra={"x-kubernetes-list-type": "atomic"})
"""A list that has one owner as a whole, and may be emptied by server-side apply."""


class SpecModel(BaseModel):
    """Base of every declared object inside `spec`: camelCase on the wire, unknown keys refused, no coercion."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        validate_by_alias=True,
        validate_by_name=False,
        serialize_by_alias=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: object) -> object:
        """Drop explicit nulls of declared keys, as the API server does; files read without one may still hold them."""
        if not isinstance(data, dict) or None not in data.values():
            return data
        declared = {info.alias or name for name, info in cls.model_fields.items()}
        return {key: value for key, value in data.items() if value is not None or key not in declared}


Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[int, Field(ge=1, le=3600)]
Days = Annotated[int, Field(ge=1, le=36500)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=DNS_SUBDOMAIN)]
Host = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
OpenMap = Annotated[dict[str, JsonValue], Field(max_length=MAX_PROPERTIES)]


class SecretKeyRef(SpecModel):
    """One key of a Secret in the same namespace. The value itself never appears in a resource or a document."""

    name: Name
    """Name of the Secret."""
    key: Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=SECRET_KEY)]
    """Key inside the Secret's `data`."""


class LocalObjectRef(SpecModel):
    """An object in the same namespace, by name."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_SUBDOMAIN)]
    """Name of the object."""
