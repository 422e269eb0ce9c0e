"""The commands that run something: the gateway, the demo, the simulated Azure."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.common import ConfigOption, Failure, database_of, read_settings


def serve(config: ConfigOption = None) -> None:
    """Serve the gateway until SIGTERM or Ctrl-C.

    What is running then may finish, within `drain_s`.

    Without a gateway.toml two variables are enough: AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_KEY.

    \b
    Example:
      aoai-gateway serve --config gateway.toml
    """
    import logging

    from gateway.policies import load_policies

    logging.basicConfig(format="%(message)s")
    logging.getLogger("gateway").setLevel(logging.INFO)
    settings = read_settings(config, is_serving=True)
    database_of(settings)
    policies = load_policies(settings.policies_dir, teams=[team.id for team in settings.teams])

    import asyncio

    import uvloop

    from gateway.app import serve as serve_until_stopped

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_until_stopped(settings, policies))


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Play the story, print the bill, and exit.")
    ] = False,
) -> None:
    """Play a story against a simulated Azure and print the bill.

    The simulator and the gateway then keep serving, to be tried.

    \b
    Example:
      aoai-gateway demo --once
    """
    try:
        from gateway.demo import run_demo
    except ModuleNotFoundError as missing:
        raise Failure(
            f"the demo plays with the real SDK, and `{missing.name}` is not installed; "
            "install `aoai-gateway[demo]`"
        ) from None
    raise typer.Exit(run_demo(once=once))


def simulator(
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port on this machine; 0 takes a free one.")
    ] = 0,
) -> None:
    """Serve the simulated Azure OpenAI alone, until Ctrl-C.

    \b
    Example:
      aoai-gateway simulator --port 8090
    """
    import signal

    from gateway.simulator import LiveSimulator, SimulatorConfig

    config = SimulatorConfig()
    stops = {signal.SIGINT, signal.SIGTERM}
    # The server's thread inherits the mask, so that only this thread hears of a stop.
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    with LiveSimulator(config, port=port) as live:
        print(f"endpoint {live.url}\napi-key  {config.api_key}", flush=True)
        signal.sigwait(stops)
