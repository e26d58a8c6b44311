"""The graph as this process knows it: what is durable and cached, under what is decided and still being written.

Planning is synchronous, so that concurrent calls are decided one after the other and each sees what the ones before it
decided, written or not. What is decided goes to the open layer. One layer is written at a time; while it is, decisions
gather in the next. So writes keep the order of the decisions, share commits, and when one fails, all that was built on
it is still in this process and fails with it.
"""

import asyncio
from collections.abc import Callable, Sequence

from identity_svc.graph import Assertion, Fact, IdentifierKey, Node, Query
from identity_svc.store import rows
from identity_svc.store.cache import GenerationCache
from mesh.clock import Clock
from mesh.errors import StorageUnavailable
from mesh.sqlite import Database


class Layer:
    """Facts that are written together, the names and profiles as they are with them, and how the write ended."""

    __slots__ = ("_error", "_settled", "facts", "links", "nodes")

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.links: dict[IdentifierKey, str] = {}
        self.nodes: dict[str, Node] = {}
        self._settled = asyncio.Event()
        self._error: BaseException | None = None

    def settle(self, error: BaseException | None) -> None:
        """Note how the write ended and wake who waits for it."""
        self._error = error
        self._settled.set()

    async def written(self) -> None:
        """Wait until the facts are durable.

        Raises:
            StorageUnavailable: they, or facts that they build on, could not be written.
        """
        await self._settled.wait()
        if self._error is not None:
            # One exception for each waiter: a shared one would gather the tracebacks of all.
            raise StorageUnavailable("what the items made known could not be written") from self._error


class KnownGraph:
    """The graph that the rules of `identity_svc.merge` run on: layers over a bounded cache over the file."""

    def __init__(self, database: Database, cache_size: int, clock: Clock, new_id: Callable[[], str]) -> None:
        self._database = database
        self._clock = clock
        self.new_profile_id = new_id
        self._links: GenerationCache[IdentifierKey, str] = GenerationCache(cache_size)
        self._nodes: GenerationCache[str, Node] = GenerationCache(cache_size)
        # Newest first: the open one, the one that is being written. Empty when all is written, which costs reads least.
        self._layers: list[Layer] = []
        self._writing: Layer | None = None
        self._workspace = ""
        self._queries: Sequence[Query] = ()
        self._absent: set[IdentifierKey] | None = None
        self._now_ns = 0
        self.touched: Layer | None = None

    def begin(self, workspace: str, queries: Sequence[Query]) -> None:
        """Start planning a batch: afterwards `touched` is the newest layer that its results rest on, if any."""
        self._workspace = workspace
        self._queries = queries
        self._absent = None
        self._now_ns = self._clock.now_ns()
        self.touched = None

    def now_ns(self) -> int:
        """Return the time of the batch."""
        return self._now_ns

    def find(self, key: IdentifierKey) -> Node | None:
        """Return the profile that an identifier belongs to now, or None.

        Raises:
            StorageUnavailable: the file cannot be read.
        """
        profile_id = self._link(key)
        if profile_id is None:
            return None
        node = self._node(profile_id)
        return self._node(node.merged_into) if node.merged_into else node

    def record(self, fact: Fact, *changed: Node) -> None:
        """Note a fact in the open layer."""
        layer = self._open_layer()
        layer.facts.append(fact)
        if isinstance(fact, Assertion):
            layer.links[fact.key] = fact.profile_id
        for node in changed:
            layer.nodes[node.profile_id] = node
        self.touched = layer

    def start_writing(self) -> Layer | None:
        """Take the open layer for writing; None when there is none, or another one is being written."""
        if self._writing is None and self._layers:
            self._writing = self._layers[0]
            return self._writing
        return None

    def end_writing(self, error: BaseException | None) -> None:
        """Note how the write ended: keep the layer's content, or drop it with all that builds on it."""
        layer, self._writing = self._writing, None
        if error is None and layer is not None:
            self._layers.remove(layer)
            for key, profile_id in layer.links.items():
                self._links.put(key, profile_id)
            for node in layer.nodes.values():
                self._nodes.put(node.profile_id, node)
            layer.settle(None)
            return
        failed, self._layers = self._layers, []
        # A commit that fails may still have reached the disk: believe the file from here on, not what was cached.
        self.forget()
        for each in failed:
            each.settle(error)

    def newest(self) -> Layer | None:
        """Return the layer that will be written last, or None when all is written."""
        return self._layers[0] if self._layers else None

    def forget(self) -> None:
        """Drop what is cached."""
        self._links.clear()
        self._nodes.clear()

    def _open_layer(self) -> Layer:
        if not self._layers or self._layers[0] is self._writing:
            self._layers.insert(0, Layer())
        return self._layers[0]

    def _touch(self, layer: Layer) -> None:
        # The layers are written in order, so that waiting for the newest is waiting for all.
        if self.touched is None or layer is self._layers[0]:
            self.touched = layer

    def _link(self, key: IdentifierKey) -> str | None:
        for layer in self._layers:
            if key in layer.links:
                self._touch(layer)
                return layer.links[key]
        return self._links.get(key) or self._load_link(key)

    def _node(self, profile_id: str) -> Node:
        for layer in self._layers:
            if profile_id in layer.nodes:
                self._touch(layer)
                return layer.nodes[profile_id]
        return self._nodes.get(profile_id) or self._load_node(profile_id)

    def _load_link(self, key: IdentifierKey) -> str | None:
        """Read what the cache does not hold: at the first miss of a batch, all that the batch may still look up."""
        if self._absent is None:
            self._absent = self._prefetch()
            found = self._links.get(key)
            if found is not None:
                return found
        if key in self._absent:
            return None
        return rows.load_links(self._database, [key]).get(key)

    def _prefetch(self) -> set[IdentifierKey]:
        """Read the batch's names and their profiles into the cache, a few statements in all; returns the unknown."""
        names = (rows.identifier_keys(self._workspace, q.anonymous_id, q.user_id, q.previous_id) for q in self._queries)
        wanted = {key for keys in names for key in keys if self._links.get(key) is None}
        links = rows.load_links(self._database, wanted)
        for key, profile_id in links.items():
            self._links.put(key, profile_id)
        missing = {profile_id for profile_id in links.values() if self._nodes.get(profile_id) is None}
        for profile_id, node in rows.load_nodes(self._database, missing).items():
            self._nodes.put(profile_id, node)
        return wanted - links.keys()

    def _load_node(self, profile_id: str) -> Node:
        node = rows.load_nodes(self._database, [profile_id])[profile_id]
        self._nodes.put(profile_id, node)
        return node
