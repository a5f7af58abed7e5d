"""Pages of somebody else's LIST: objects go to us, an empty page to the caller, and everything else is left as it is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aigateway_operator.kube.pages import taking_pages
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, VIRTUAL_MODELS, JsonObject, Resource

MODEL = {"metadata": {"name": "chat", "managedFields": [{"manager": "kubectl"}]}, "spec": {"use": True}}
PAGE = {"kind": "VirtualModelList", "metadata": {"resourceVersion": "7", "continue": "next"}, "items": [MODEL]}


@asynccontextmanager
async def answering(body: str, status: int = 200) -> AsyncIterator[tuple[aiohttp.ClientResponse, list[tuple[Resource, Any]]]]:
    """Ask a server that answers with `body`; yields the answer and the list of what is taken from it."""
    taken: list[tuple[Resource, Any]] = []

    async def take(resource: Resource, objects: list[JsonObject]) -> None:
        taken.extend((resource, obj) for obj in objects)

    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=body, status=status, content_type="application/json")

    app = web.Application()
    app.add_routes([web.get("/", serve)])
    response_class = taking_pages((VIRTUAL_MODELS, GATEWAY_CONFIGS), take)
    async with TestServer(app) as server, aiohttp.ClientSession(response_class=response_class) as session:
        async with session.get(server.make_url("/")) as answer:
            yield answer, taken


async def test_objects_are_taken_and_the_page_goes_on_without_them() -> None:
    """What leads to the next page and to the watch stays; managed fields are half of an object and nobody reads them."""
    async with answering(json.dumps(PAGE)) as (answer, taken):
        assert await answer.json() == {**PAGE, "items": []}
    assert taken == [(VIRTUAL_MODELS, {"metadata": {"name": "chat"}, "spec": {"use": True}})]


@pytest.mark.parametrize("kind", ["SecretList", "APIResourceList", "VirtualModel"])
async def test_any_other_answer_is_left_as_it_is(kind: str) -> None:
    """What the server says of itself, of other kinds and of one object is the caller's alone."""
    async with answering(json.dumps({**PAGE, "kind": kind})) as (answer, taken):
        assert await answer.json() == {**PAGE, "kind": kind}
    assert taken == []


async def test_an_error_is_no_page() -> None:
    """Whatever it looks like."""
    async with answering(json.dumps(PAGE), status=410) as (answer, taken):
        assert await answer.json() == PAGE
    assert taken == []


async def test_a_page_that_is_no_json_counts_as_a_connection_that_broke_off() -> None:
    """kopf ends at any other exception of a LIST, and starts anew at this one."""
    async with answering("<html>busy</html>") as (answer, taken):
        with pytest.raises(aiohttp.ClientPayloadError, match="is a proxy in between"):
            await answer.json()
    assert taken == []
