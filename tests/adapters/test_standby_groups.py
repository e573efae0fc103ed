"""Control groups of standbys: the memory that they take is charged where they are."""

from pathlib import Path

import pytest

from pool_service.adapters.process.control_groups import delegated_groups
from pool_service.adapters.standby import standbys
from tests.adapters.light_standby import Kept
from tests.control_groups import as_seen_by, delegated, mount


@pytest.mark.skipif(mount() is None, reason="needs root, and control groups of version 2")
async def test_a_standby_has_a_control_group_from_its_beginning_until_its_end(
    kept: Kept, tmp_path: Path
) -> None:
    mounted = mount()
    assert mounted is not None
    with delegated(mounted) as group:
        root = as_seen_by(group.service, mounted, tmp_path / "root")
        groups = delegated_groups(kept.state_dir, root)
        kept.standbys = standbys.Standbys(
            kept._spec, kept.state_dir, kept.logs, kept.notifications, groups=groups
        )
        (standby,) = await kept.filled()
        (nonce,) = (one.name for one in (kept.state_dir / "work").iterdir())
        assert standby in groups.members(nonce)
        await kept.standbys.close()
        assert group.of_servers == []
