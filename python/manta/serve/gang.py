# SPDX-License-Identifier: Apache-2.0
"""What a replica of a gang knows about the others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class GangContext:
    """The gang, this replica's place in it, and the ids of all members in the order of ranks."""

    gang_id: str
    rank: int
    world_size: int
    member_replica_ids: list[str]
    pg_name: str = ""
