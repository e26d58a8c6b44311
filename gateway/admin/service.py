"""The servicer: who asks is checked, messages in, the directory asked, messages out."""

from collections import Counter

from msgspec.structs import replace

from clew.admin.v1 import source_pb2 as nouns
from clew.admin.v1 import source_service_pb2 as messages
from clew.admin.v1.source_service_pb2_grpc import SourceServiceServicer
from gateway.admin import rules
from gateway.admin.access import READERS, WRITERS, authorize
from gateway.admin.directory import Directory, Listed
from gateway.admin.keys import NewKey
from gateway.admin.messages import change_message, key_message, nanos_of, source_message, values_of
from gateway.admin.paging import DEFAULT_PAGE_SIZE, page_of, page_token_of, position_of
from gateway.admin.records import SourceRecord, SourceValues
from gateway.admission import Admission
from gateway.caller import Caller
from mesh.clock import Clock

_EVERY_WORKSPACE = ("", "-")


class SourceServicer(SourceServiceServicer):
    """`clew.admin.v1.SourceService`. Requests were validated against the contract before they come here."""

    def __init__(self, directory: Directory, admission: Admission, clock: Clock) -> None:
        self._directory = directory
        self._admission = admission
        self._clock = clock

    async def CreateSource(  # noqa: N802 - the contract's name
        self, request: messages.CreateSourceRequest, context: Caller
    ) -> messages.CreateSourceResponse:
        """Make a source."""
        actor = await self._actor(context)
        place = request.source.workspace, request.source.name
        record = await self._directory.create(place, actor, rules.create(values_of(request.source)))
        return messages.CreateSourceResponse(source=await self._message(record))

    async def GetSource(  # noqa: N802 - the contract's name
        self, request: messages.GetSourceRequest, context: Caller
    ) -> messages.GetSourceResponse:
        """Return a source with its keys."""
        await self._check_reader(context)
        (source,) = await self._messages(self._directory.find((request.workspace, request.source)))
        return messages.GetSourceResponse(source=source)

    async def ListSources(  # noqa: N802 - the contract's name
        self, request: messages.ListSourcesRequest, context: Caller
    ) -> messages.ListSourcesResponse:
        """Return a page of sources."""
        await self._check_reader(context)
        every = request.workspace in _EVERY_WORKSPACE
        listed = [one for one in self._directory.listed() if every or one.record.workspace == request.workspace]
        what = "sources/" + ("" if every else request.workspace)
        page, token = page_of(listed, _position, what, request.page_size, request.page_token)
        return messages.ListSourcesResponse(sources=await self._messages(*page), next_page_token=token)

    async def UpdateSource(  # noqa: N802 - the contract's name
        self, request: messages.UpdateSourceRequest, context: Caller
    ) -> messages.UpdateSourceResponse:
        """Change the fields that the mask names."""
        actor = await self._actor(context)
        asked, paths = values_of(request.source), list(request.update_mask.paths)

        def changed(values: SourceValues) -> SourceValues:
            return replace(values, **{path: getattr(asked, path) for path in paths})

        place = request.source.workspace, request.source.name
        record = await self._directory.change(place, actor, rules.update(changed))
        return messages.UpdateSourceResponse(source=await self._message(record))

    async def DeleteSource(  # noqa: N802 - the contract's name
        self, request: messages.DeleteSourceRequest, context: Caller
    ) -> messages.DeleteSourceResponse:
        """Remove a source and its keys."""
        actor = await self._actor(context)
        await self._directory.change((request.workspace, request.source), actor, rules.delete)
        return messages.DeleteSourceResponse()

    async def ListWorkspaces(  # noqa: N802 - the contract's name
        self, request: messages.ListWorkspacesRequest, context: Caller
    ) -> messages.ListWorkspacesResponse:
        """Return a page of workspaces."""
        await self._check_reader(context)
        counts = sorted(Counter(listed.record.workspace for listed in self._directory.listed()).items())
        page, token = page_of(counts, lambda item: item[0], "workspaces", request.page_size, request.page_token)
        workspaces = [nouns.Workspace(name=name, source_count=count) for name, count in page]
        return messages.ListWorkspacesResponse(workspaces=workspaces, next_page_token=token)

    async def CreateWriteKey(  # noqa: N802 - the contract's name
        self, request: messages.CreateWriteKeyRequest, context: Caller
    ) -> messages.CreateWriteKeyResponse:
        """Make a key and return it, this once."""
        actor = await self._actor(context)
        new = NewKey.make()
        lifetime_ns = nanos_of(request.lifetime) if request.HasField("lifetime") else None
        rule = rules.create_key(new.id, new.sha256, new.prefix, lifetime_ns)
        record = await self._directory.change((request.workspace, request.source), actor, rule)
        return messages.CreateWriteKeyResponse(write_key=self._key(record, new.id), secret=new.secret)

    async def RotateWriteKey(  # noqa: N802 - the contract's name
        self, request: messages.RotateWriteKeyRequest, context: Caller
    ) -> messages.RotateWriteKeyResponse:
        """Make a key in place of another one."""
        actor = await self._actor(context)
        new, old_id = NewKey.make(), request.write_key_id
        rule = rules.rotate_key(old_id, nanos_of(request.overlap), new.id, new.sha256, new.prefix)
        record = await self._directory.change((request.workspace, request.source), actor, rule)
        replaced = self._key(record, old_id)
        return messages.RotateWriteKeyResponse(
            write_key=self._key(record, new.id), secret=new.secret, replaced=replaced
        )

    async def RevokeWriteKey(  # noqa: N802 - the contract's name
        self, request: messages.RevokeWriteKeyRequest, context: Caller
    ) -> messages.RevokeWriteKeyResponse:
        """End a key at once."""
        actor = await self._actor(context)
        rule = rules.revoke_key(request.write_key_id)
        record = await self._directory.change((request.workspace, request.source), actor, rule)
        return messages.RevokeWriteKeyResponse(write_key=self._key(record, request.write_key_id))

    async def ListSourceChanges(  # noqa: N802 - the contract's name
        self, request: messages.ListSourceChangesRequest, context: Caller
    ) -> messages.ListSourceChangesResponse:
        """Return a page of what was done to a source."""
        await self._check_reader(context)
        what = f"changes/{len(request.workspace)}/{request.workspace}/{request.source}"
        before = position_of(request.page_token, what)
        size = request.page_size or DEFAULT_PAGE_SIZE
        place = request.workspace, request.source
        entries = await self._directory.history(place, int(before) if before else None, size + 1)
        token = page_token_of(str(entries[size - 1].revision), what) if len(entries) > size else ""
        changes = [change_message(entry) for entry in entries[:size]]
        return messages.ListSourceChangesResponse(changes=changes, next_page_token=token)

    async def _actor(self, context: Caller) -> str:
        return (await authorize(self._admission, context.invocation_metadata(), WRITERS)).subject

    async def _check_reader(self, context: Caller) -> None:
        await authorize(self._admission, context.invocation_metadata(), READERS)

    async def _message(self, record: SourceRecord | None) -> nouns.Source:
        (message,) = await self._messages(Listed(rules.existing(record), from_file=False))
        return message

    async def _messages(self, *listed: Listed) -> list[nouns.Source]:
        uses, now_ns = await self._directory.last_uses(), self._clock.now_ns()
        return [source_message(one, uses, now_ns) for one in listed]

    def _key(self, record: SourceRecord | None, key_id: str) -> nouns.WriteKey:
        return key_message(rules.key_of(rules.existing(record), key_id), None, self._clock.now_ns())


def _position(listed: Listed) -> str:
    # The character between sorts below every other one: by workspace first, then by name.
    return f"{listed.record.workspace}\0{listed.record.name}"
