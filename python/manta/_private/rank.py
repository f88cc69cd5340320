# SPDX-License-Identifier: Apache-2.0
"""A replica's place among those of its deployment, as user code sees it.

``ReplicaRank`` is a pydantic model.  A replica is not to load pydantic because it has a rank, so what
it hands out looks like one, and becomes one when somebody asks for more than the numbers.
"""

from __future__ import annotations

from typing import Any


class LazyRank:
    """Equal to, and an instance of, ``manta.serve.schema.ReplicaRank``."""

    def __init__(self, rank: int) -> None:
        # One node: every replica is on it, so the place on it is the place.
        self.rank = rank
        self.node_rank = 0
        self.local_rank = rank

    def _model(self) -> Any:
        from manta.serve.schema import ReplicaRank

        return ReplicaRank(
            rank=self.rank, node_rank=self.node_rank, local_rank=self.local_rank
        )

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        from manta.serve.schema import ReplicaRank

        return ReplicaRank

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._model(), name)

    def __eq__(self, other: object) -> bool:
        names = ("rank", "node_rank", "local_rank")
        return all(getattr(self, n) == getattr(other, n, None) for n in names)

    def __hash__(self) -> int:
        return hash((self.rank, self.node_rank, self.local_rank))

    def __repr__(self) -> str:
        return repr(self._model())

    def __str__(self) -> str:
        return str(self._model())

    def __reduce__(self) -> Any:
        return LazyRank, (self.rank,)
