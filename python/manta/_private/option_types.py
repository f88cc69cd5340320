# SPDX-License-Identifier: Apache-2.0
"""The pydantic half of the option table; imported only when a value needs judging."""

from __future__ import annotations

import json
from typing import Annotated, Any, List, Optional

import pydantic
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from manta.serve import config

_WORDS: dict[str, Any] = {
    "Any": Any,
    "List": List,
    "Optional": Optional,
    "dict": dict,
    "int": int,
    "NonNegativeFloat": NonNegativeFloat,
    "NonNegativeInt": NonNegativeInt,
    "PositiveFloat": PositiveFloat,
    "PositiveInt": PositiveInt,
    "Fraction": Annotated[float, Field(gt=0.0, le=1.0)],
    "Percent": Annotated[int, Field(ge=0, le=100)],
    "AutoscalingConfig": config.AutoscalingConfig,
    "BackpressureConfig": config.BackpressureConfig,
    "DeploymentActorConfig": config.DeploymentActorConfig,
    "GangSchedulingConfig": config.GangSchedulingConfig,
    "RequestRouterConfig": config.RequestRouterConfig,
}


def resolve(annotation: str) -> Any:
    """The type that the words of a row stand for."""
    return eval(annotation, {"__builtins__": {}}, _WORDS)


class _Checks(BaseModel):
    """What a type cannot say."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @pydantic.field_validator("user_config", check_fields=False)
    @classmethod
    def _user_config_is_json(cls, value: Any) -> Any:
        if value is None or isinstance(value, bytes):
            return value
        try:
            json.dumps(value)
        except TypeError as error:
            raise ValueError(f"user_config is not JSON-serializable: {error}.") from error
        return value

    @pydantic.field_validator("logging_config", check_fields=False)
    @classmethod
    def _logging_config_is_right(cls, value: Any) -> Any:
        from manta.serve.schema import LoggingConfig

        return None if value is None else LoggingConfig(**value).model_dump()

    @pydantic.field_validator("max_queued_requests", check_fields=False)
    @classmethod
    def _queue_is_unlimited_or_positive(cls, value: int) -> int:
        if value < 1 and value != -1:
            raise ValueError("max_queued_requests must be -1 (no limit) or a positive integer.")
        return value

    @pydantic.model_validator(mode="after")
    def _deployment_actors_have_own_names(self) -> Any:
        names = [actor.name for actor in getattr(self, "deployment_actors", None) or ()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"deployment_actors must have unique names. Duplicate name(s): {twice}"
            )
        return self


def make_model(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    return pydantic.create_model(name, __base__=_Checks, **fields)
