"""Pages of a LIST that somebody else asks for, taken out of its hands: objects go to us, an empty page goes to the caller.

kopf starts a queue, a task and a chain of copies for every object it lists, half a millisecond each, to hand it to a
function of ours in the end. Its own LIST stays as it is (pages, resourceVersion, repetition after a 410), so that nothing is
lost between LIST and WATCH; only the items never reach its machinery. Built on `response_class` of aiohttp's session. Called by
`handlers` alone; knows nothing of kopf.
Source: measured with 10,000 objects, see docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import aiohttp

from aigateway_operator.errors import Unavailable
from aigateway_operator.kube.answers import drop_managed_fields, parse_object
from aigateway_operator.kube.resources import JsonObject, Resource

TakePage = Callable[[Resource, list[JsonObject]], Awaitable[None]]
"""Takes the objects of one page; the next page is not asked for before it returns."""


def taking_pages(resources: Collection[Resource], take: TakePage) -> type[aiohttp.ClientResponse]:
    """Return the class of responses whose `json` gives lists of `resources` to `take` and returns them without items."""
    kinds = {f"{resource.kind}List": resource for resource in resources}

    class Response(aiohttp.ClientResponse):
        """What a session answers."""

        async def json(self, **options: Any) -> Any:
            """Return the JSON of the body; a list of ours comes back empty."""
            if self.status != 200:
                return await super().json(**options)
            try:
                page = parse_object(f"{self.method} {self.url.path}", await self.read())
            except Unavailable as error:
                # What kopf takes for a connection that broke off: it lists again.
                raise aiohttp.ClientPayloadError(str(error)) from error
            resource = kinds.get(page.get("kind", ""))
            if resource is not None:
                items, page["items"] = page.get("items") or [], []
                await take(resource, [drop_managed_fields(item) for item in items])
            return page

    return Response
