"""`python -m bench.bare up ...`: the command line `clew`, with `bench/bare/gateway.py` in the gateway's place."""

import cli.running
from cli.children import Child
from cli.main import main


class BareChild(Child):
    """A process of the mesh; the gateway is the bare one."""

    async def start(self) -> None:
        """See `Child.start`."""
        if self.module == "gateway":
            self.module = "bench.bare.gateway"
        await super().start()


cli.running.Child = BareChild  # type: ignore[attr-defined]
main()
