# SPDX-License-Identifier: Apache-2.0
"""The shapes of asynchronous inference: what a task is, and what a queue's adapter must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Dict, List, Optional, Union

from pydantic import BaseModel

from manta._private.constants import DEFAULT_CONSUMER_CONCURRENCY


class CeleryAdapterConfig(BaseModel):
    """How the adapter for Celery reaches its broker and its store of results."""

    app_custom_config: Optional[Dict[str, Any]] = None
    task_custom_config: Optional[Dict[str, Any]] = None
    broker_url: str
    backend_url: str
    broker_transport_options: Optional[Dict[str, Any]] = None


class TaskProcessorConfig(BaseModel):
    """Which queue a consumer serves, through which adapter, with which retries."""

    queue_name: str
    adapter: Union[str, Callable] = "manta.serve.task_processor.CeleryTaskProcessorAdapter"
    adapter_config: Any
    max_retries: Optional[int] = 3
    failed_task_queue_name: Optional[str] = None
    unprocessable_task_queue_name: Optional[str] = None


class TaskResult(BaseModel):
    """A task as its queue knows it."""

    id: str
    status: str
    created_at: Optional[float] = None
    result: Any


class TaskProcessorAdapter(ABC):
    """What a task queue must do to feed a consumer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Adapters are constructed with the consumer's configuration."""
        super().__init__()

    @abstractmethod
    def initialize(self, consumer_concurrency: int = DEFAULT_CONSUMER_CONCURRENCY) -> None: ...

    @abstractmethod
    def register_task_handle(
        self, func: Callable[..., Any], name: Optional[str] = None
    ) -> None: ...

    @abstractmethod
    def enqueue_task_sync(
        self,
        task_name: str,
        args: Optional[Any] = None,
        kwargs: Optional[Any] = None,
        **options: Any,
    ) -> TaskResult: ...

    @abstractmethod
    def get_task_status_sync(self, task_id: str) -> TaskResult: ...

    @abstractmethod
    def start_consumer(self, **kwargs: Any) -> None: ...

    @abstractmethod
    def stop_consumer(self, timeout: float = 10.0) -> None: ...

    @abstractmethod
    def cancel_task_sync(self, task_id: str) -> None: ...

    @abstractmethod
    def get_metrics_sync(self) -> Dict[str, Any]: ...

    @abstractmethod
    def health_check_sync(self) -> List[Dict[str, Any]]: ...

    async def enqueue_task_async(
        self,
        task_name: str,
        args: Optional[Any] = None,
        kwargs: Optional[Any] = None,
        **options: Any,
    ) -> TaskResult:
        raise NotImplementedError("Subclass must implement enqueue_task_async function")

    async def get_task_status_async(self, task_id: str) -> TaskResult:
        raise NotImplementedError("Subclass must implement get_task_status_async function")

    async def cancel_task_async(self, task_id: str) -> None:
        raise NotImplementedError("Subclass must implement cancel_task_async function")

    async def get_metrics_async(self) -> Dict[str, Any]:
        raise NotImplementedError("Subclass must implement get_metrics_async function")

    async def health_check_async(self) -> List[Dict[str, Any]]:
        raise NotImplementedError("Subclass must implement health_check_async function")
