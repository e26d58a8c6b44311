"""`clew demo`: a mesh, three visitors' traffic from unmodified SDKs, and what became of it."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from cli.children import ChildFailed
from cli.demo_story import Story
from cli.running import Mesh, MeshOptions
from cli.send import RefusedRequest
from cli.terminal import busy
from cli.terminal import console as terminal


def demo(kafka: str, *, keep: bool) -> int:
    """Run the demo; exit status 0 when everything that it promises was seen, 1 otherwise."""
    try:
        import rudderstack.analytics  # noqa: F401, PLC0415 - only to say what is missing before anything starts
        import segment.analytics  # noqa: F401, PLC0415
    except ImportError as error:
        sys.stderr.write(f"clew demo: {error.name} is not installed: pip install 'clew[demo]'\n")
        return 2
    data_dir = Path(tempfile.mkdtemp(prefix="clew-demo-"))
    try:
        return asyncio.run(_run(MeshOptions(data_dir, kafka=kafka), terminal()))
    except (ChildFailed, RefusedRequest, OSError) as error:
        sys.stderr.write(f"clew demo: {error}\n")
        return 1
    finally:
        if keep:
            sys.stderr.write(f"kept: {data_dir}\n")
        else:
            shutil.rmtree(data_dir, ignore_errors=True)


async def _run(options: MeshOptions, console: Console) -> int:
    mesh = Mesh(options, lambda text: console.print(text, style="yellow"))
    with busy(console, "starting identity, consent, enrich and the gateway"):
        await mesh.start()
    try:
        broker = "Apache Kafka" if options.kafka else "the embedded broker, in memory only"
        console.print(f"[bold]clew serves[/bold] at {mesh.endpoints['http']}, on {broker} at {mesh.endpoints['kafka']}")
        problems = await asyncio.to_thread(_tell, Story(options.data_dir, console))
    finally:
        with busy(console, "draining"):
            await mesh.stop()
    for problem in problems:
        sys.stderr.write(f"clew demo: {problem}\n")
    console.print("[bold]stopped cleanly[/bold]" if not problems else "[bold red]something is missing[/bold red]")
    return 1 if problems else 0


def _tell(story: Story) -> list[str]:
    """Every chapter in turn; what a chapter promised and did not show."""
    chapters: tuple[Callable[[], list[str]], ...] = (
        story.anonymous_visit,
        story.login,
        story.proof,
        story.refusal,
        story.failure,
        story.records,
        story.trace,
    )
    return [problem for chapter in chapters for problem in chapter()]
