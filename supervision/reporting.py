"""The status that people and programs ask for, put together from what is known."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from configs import Settings
from configs.profiles import in_force
from protocol.lifecycle import Profile
from protocol.messages.supervisor import ActorStatus, ProcessStatus, Status
from supervision.child import Child
from supervision.health import Verdict, judge_all, judge_system
from supervision.vitals import Vitals, VitalsReader


class Reporter:
    """Writes the status of one boot."""

    def __init__(self, settings: Settings, boot: str, run_folder: str) -> None:
        self._settings = settings
        self._boot = boot
        self._run_folder = run_folder
        self._vitals = VitalsReader()

    def reload(self, settings: Settings) -> None:
        """Judge by these from now on."""
        self._settings = settings

    def status(
        self,
        now: float,
        children: Mapping[str, Child],
        *,
        supervisor: ProcessStatus,
        spawner: ProcessStatus,
        guard: ProcessStatus,
        strangers: int,
    ) -> Status:
        """How everything does at ``now`` (monotonic seconds)."""
        verdicts = self.verdicts(now, children)
        whole = judge_system(verdicts.items())
        pids = [child.pid for child in children.values()]
        pids += [process.pid for process in (supervisor, spawner, guard)]
        self._vitals.keep_only({pid for pid in pids if pid is not None})
        return Status(
            health=whole.health, reason=whole.reason, version=_version(), boot=self._boot,
            run_folder=self._run_folder, data_folder=str(self._settings.data.folder),
            profile=self._profile(children),
            supervisor=self._process(supervisor), spawner=self._process(spawner),
            guard=self._process(guard), strangers=strangers,
            actors=[self._actor(child, verdicts[name]) for name, child in children.items()],
        )  # fmt: skip

    def verdicts(self, now: float, children: Mapping[str, Child]) -> dict[str, Verdict]:
        """How each actor does at ``now``."""
        return judge_all(children, now, self._settings)

    def _profile(self, children: Mapping[str, Child]) -> Profile:
        engines = [children[name].public_state for name in self._settings.gpu_engines]
        return in_force(self._settings.device.profile, engines)

    def _actor(self, child: Child, verdict: Verdict) -> ActorStatus:
        vitals = self._vitals_of(child.pid)
        return ActorStatus(
            name=child.name, pid=child.pid, epoch=child.epoch, state=child.public_state,
            health=verdict.health, reason=verdict.reason, restarts=child.restarts,
            last_exit=child.last_exit, uptime_s=vitals.uptime_s if vitals else None,
            cpu_percent=vitals.cpu_percent if vitals else None,
            rss_bytes=vitals.rss_bytes if vitals else None,
            threads=vitals.threads if vitals else None,
            open_files=vitals.open_files if vitals else None,
            activity=child.activity, counters=child.counters, info=child.info,
        )  # fmt: skip

    def _process(self, process: ProcessStatus) -> ProcessStatus:
        """With what the system says of it. Its age is that of its role, which is known already."""
        vitals = self._vitals_of(process.pid)
        if vitals is None:
            return process
        return process.model_copy(
            update={
                "cpu_percent": vitals.cpu_percent, "rss_bytes": vitals.rss_bytes,
                "threads": vitals.threads, "open_files": vitals.open_files,
            }
        )  # fmt: skip

    def _vitals_of(self, pid: int | None) -> Vitals | None:
        return None if pid is None else self._vitals.read(pid)


def _version() -> str:
    try:
        return version("noyau")
    except PackageNotFoundError:
        return "not installed"
