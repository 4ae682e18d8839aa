"""What the demo checked and measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(slots=True)
class Report:
    """Shown as it grows, and as a table at the end."""

    console: Console
    measured: list[tuple[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def title(self, text: str) -> None:
        """A scene begins."""
        self.console.print(f"\n[bold]{text}[/]")

    def check(self, what: str, held: bool) -> None:
        """Show one promise and whether it was kept."""
        sign, style = ("✓", "green") if held else ("✗", "red")
        self.console.print(f"  [{style}]{sign}[/] ", end="")
        self.console.print(what, style=None if held else "red", markup=False)
        if not held:
            self.failures.append(what)

    def measure(self, what: str, value: str, *, once: bool = False) -> None:
        """Keep a figure for the table at the end; ``once``: only the first of this name."""
        if not once or what not in dict(self.measured):
            self.measured.append((what, value))

    def show(self) -> None:
        """All figures, and whether every promise was kept."""
        self.console.print()
        rows = Table(title="measured on this machine, just now", title_justify="left", box=None)
        rows.add_column("what")
        rows.add_column("value", justify="right", style="bold")
        for what, value in self.measured:
            rows.add_row(what, value)
        self.console.print(rows)
        if self.failures:
            self.console.print(f"[red]{len(self.failures)} promises were not kept.[/]")
        else:
            self.console.print("[green]Every promise was kept.[/]")
