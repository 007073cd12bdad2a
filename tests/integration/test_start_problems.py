"""Commands on a mount that does not answer, as they are looked at when the config is loaded."""

from pathlib import Path

import pytest

from edge.cli import start_problems as module
from edge.cli.start_problems import start_problems
from edge.config.model import StdioServerConfig
from tests.support.hanging import dead_mount, why_no_dead_mount
from tests.support.processes import eventually

pytestmark = pytest.mark.skipif(why_no_dead_mount() is not None, reason=str(why_no_dead_mount()))


def test_a_mount_that_does_not_answer_is_warned_of_and_the_others_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.1)
    hung = [StdioServerConfig(name=f"hung-{n}", command=(f"{tmp_path}/dead/serve",)) for n in range(2)]
    missing = StdioServerConfig(name="missing", command=("/not/there",))
    with dead_mount(tmp_path / "dead"):
        found = start_problems([*hung, missing], {})
        assert found == {
            **{
                one.name: [
                    f"servers.{one.name}.command: no answer within 0.1 s where it is; is a mount not answering?"
                ]
                for one in hung
            },
            "missing": ["servers.missing.command: the command /not/there does not exist"],
        }
        # Two hang, and two more may: then nothing is looked at any more, and that is said.
        found = start_problems([*hung, missing], {})
        assert found["missing"] == ["servers.missing.command: not looked at, as 4 looks at others still hang"]
    eventually(lambda: "/not/there" in start_problems([missing], {})["missing"][0])
