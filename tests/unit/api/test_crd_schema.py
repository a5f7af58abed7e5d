"""The converter from pydantic models to structural schemas: what it rewrites, drops and refuses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, JsonValue, create_model

from aigateway_operator.api.crd_schema import Schema, structural_schema, walk

Text = Annotated[str, Field(max_length=10)]


class Inner(BaseModel):
    """What is inside."""

    name: Text
    """Not a description without use_attribute_docstrings."""
    port: int = 1


def convert(annotation: Any, default: Any = ..., **options: Any) -> Schema:
    """Return the schema of the only field `f` of a model."""
    model = create_model("Model", f=(annotation, default))
    chosen = {"validations": {}, "preserve": True, **options}
    schema = structural_schema(model, "spec", **chosen)
    return dict(schema["properties"]["f"])


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (bool, {"type": "boolean"}),
        (float, {"type": "number"}),
        (Text | None, {"type": "string", "maxLength": 10}),
        (Annotated[int, Field(ge=1, le=3)], {"type": "integer", "minimum": 1, "maximum": 3}),
        (Annotated[int, Field(gt=0)], {"type": "integer", "minimum": 0, "exclusiveMinimum": True}),
        (Annotated[int, Field(lt=9)], {"type": "integer", "maximum": 9, "exclusiveMaximum": True}),
        (Literal["a"], {"type": "string", "enum": ["a"]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (
            Annotated[list[Text], Field(max_length=2)],
            {"type": "array", "maxItems": 2, "items": {"type": "string", "maxLength": 10}},
        ),
        (
            Annotated[dict[str, Text], Field(max_length=2)],
            {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "string", "maxLength": 10}},
        ),
    ],
)
def test_construct_is_rewritten_to_its_structural_equal(annotation: Any, expected: Schema) -> None:
    """What the API server refuses of pydantic's output has an equal that it takes."""
    assert convert(annotation) == expected


@pytest.mark.parametrize("annotation", [dict[str, JsonValue], dict[str, Any]])
def test_open_map_keeps_unknown_keys_and_is_atomic(annotation: Any) -> None:
    """Any JSON may stand in it, and one applier owns all of it."""
    assert convert(Annotated[annotation, Field(max_length=3)]) == {
        "type": "object",
        "maxProperties": 3,
        "x-kubernetes-preserve-unknown-fields": True,
        "x-kubernetes-map-type": "atomic",
    }


def test_nested_model_is_inlined_and_keeps_unknown_keys() -> None:
    """A reference is refused by the API server; a nested object without the mark would be pruned."""
    schema = convert(Inner | None, None)
    assert schema == {
        "description": "What is inside.",
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 10}, "port": {"type": "integer"}},
        "required": ["name"],
        "x-kubernetes-preserve-unknown-fields": True,
    }


def test_description_of_a_field_wins_over_that_of_its_model() -> None:
    """`kubectl explain` says what this one is for."""
    assert convert(Annotated[Inner, Field(description="Mine.")])["description"] == "Mine."


def test_defaults_and_titles_are_dropped() -> None:
    """Defaults are applied at render; a title only makes the CRD larger."""
    assert convert(Annotated[Text, Field(title="T", examples=["x"])], "abc") == {"type": "string", "maxLength": 10}


def test_field_that_a_rule_asks_for_is_not_required_but_says_so() -> None:
    """The API server would answer with a text of its own before the rule is evaluated."""
    schema = convert(Inner, required_by_rule={"spec.f.name"})
    assert "required" not in schema
    assert schema["properties"]["name"]["description"] == "Required."


def test_without_preserve_unknown_keys_are_pruned() -> None:
    """Status is ours: nothing unknown is kept."""
    assert "x-kubernetes-preserve-unknown-fields" not in convert(Inner, preserve=False)


def test_validations_are_put_at_their_place() -> None:
    """Items of lists are written with []."""
    rule = {"rule": "true", "message": "never"}
    items = Annotated[list[Inner], Field(max_length=2)]
    schema = convert(items, validations={"spec.f[]": [rule], "": [rule]})
    assert schema["items"]["x-kubernetes-validations"] == [rule]
    assert "x-kubernetes-validations" not in schema


def test_validations_of_no_place_are_refused() -> None:
    """A renamed field must not take its rules away unseen."""
    with pytest.raises(TypeError, match=r"spec\.g"):
        convert(Inner, validations={"spec.g": [{"rule": "true"}]})


class Recursive(BaseModel):
    """Contains itself."""

    below: Recursive | None = None


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (str, "without maxLength"),
        (list[Text], "without maxItems"),
        (dict[str, Text], "without maxProperties"),
        (dict[str, Any], "without maxProperties"),
        (int | Text, "union"),
        (Any, "no type"),
        (Recursive, "contains itself"),
        (Annotated[dict[str, Text], Field(json_schema_extra={"additionalProperties": False})], "holds nothing"),
        (Annotated[tuple[Text, int], Field(max_length=2)], "prefixItems"),
        (Annotated[set[Text], Field(max_length=2)], "uniqueItems"),
    ],
)
def test_construct_without_structural_equal_is_refused_by_place(annotation: Any, text: str) -> None:
    """Nothing is lost unseen, and nothing unbounded reaches the API server's cost estimate."""
    with pytest.raises(TypeError, match=text) as error:
        convert(annotation)
    assert "spec.f" in str(error.value)


def test_walk_yields_every_place_parents_first() -> None:
    """Places are written as in rules and reference."""
    maps = Annotated[dict[str, Text], Field(max_length=2)]
    lists = Annotated[list[Inner], Field(max_length=2)]
    model = create_model("Model", a=(maps, ...), b=(lists, ...))
    schema = structural_schema(model, "spec", validations={}, preserve=True)
    assert [path for path, _ in walk(schema, "spec")] == [
        "spec", "spec.a", "spec.a{}", "spec.b", "spec.b[]", "spec.b[].name", "spec.b[].port",
    ]  # fmt: skip
