"""The orchestrator: sees every query through to its end."""

from actors.orchestrator.actor import Orchestrator

__all__ = ["Orchestrator"]
