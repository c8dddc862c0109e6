"""`client.admin.requests`: single requests, without their content. Needs the scope read."""

from bitlane import request_convert
from bitlane.admin_room import Room
from bitlane.request_types import RequestStatus, RequestStory
from bitlane.v1 import admin_pb2 as pb


class AsyncRequests(Room):
    """What came last, and what happened to one."""

    async def recent(self, *, tenant: str = "", limit: int = 100) -> list[RequestStatus]:
        """The requests that were admitted last, as they are now, newest first.

        Of the 200 or so that came last, those that are still known: one that ended is forgotten after a minute by
        default.

        Args:
            tenant: Default: the key's own, and all tenants with an operator's key.
            limit: At most so many, up to 1000.
        """
        request = pb.ListRecentRequestsRequest(tenant=tenant, limit=limit)
        reply = await self._call(lambda stub: stub.ListRecentRequests, request)
        return [request_convert.request_status(each, reply.currency) for each in reply.requests]

    async def story(self, request_id: str, *, tenant: str = "") -> RequestStory:
        """What happened to a request, whether it waits, runs or has ended. Raises NotFound.

        Args:
            request_id: As it was accepted.
            tenant: Default: the key's own; operators' keys name it.
        """
        request = pb.GetRequestStoryRequest(tenant=tenant, request_id=request_id)
        return request_convert.request_story(await self._call(lambda stub: stub.GetRequestStory, request))
