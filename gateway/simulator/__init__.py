"""Azure OpenAI acted out: a resource with state, scripted behaviour and an invoice of its own.

It shares no code with the gateway, so what it charges is independent evidence of what a gateway
should have metered. Point an `openai` client at `LiveSimulator().url`; say in a prompt what is to
happen (`[[sim calls=2 outputs=image]]`, see `script`), or lay a fault for the next request that
matches (`POST /simulator/faults`, see `mishaps`); read the bill at `GET /simulator/invoice`.
"""

from gateway.simulator.app import create_simulator
from gateway.simulator.config import SimulatorConfig
from gateway.simulator.invoice import SessionTerms
from gateway.simulator.live import LiveSimulator
from gateway.simulator.state import Simulator
from gateway.simulator.versions import ApiVersions

__all__ = [
    "ApiVersions",
    "LiveSimulator",
    "SessionTerms",
    "Simulator",
    "SimulatorConfig",
    "create_simulator",
]
