"""``noyau chaos``: faults on purpose, under load, and an account of what became of every request.

::

    plan.py ─► conducting.py ─► faults ─► the running noyau ◄─ requests ◄─ load.py ─► ledger.py
                     │                            │                                      │
                     └─► observing.py ◄─ signs ───┘          report.py ◄─ verdict.py ◄───┘
"""

from noyau.chaos.command import chaos

__all__ = ["chaos"]
